"""`python -m bench.telemetry`: what telemetry costs screening, in CPU time a connection; the last line is JSON.

Contract: real sidecars (`postwarden-sidecar run`, as in a pod, with the operator in a process of its own: in `up` that sends telemetry,
too, and would be counted), two at a time: one with an endpoint of some kind and one without OTLP. A client in this process
connects and is dropped so many times at each in turn, in an order that chance gives each round. Counted is CPU time, because a machine's
speed is bounded by it, and wall time on shared cores tells of the neighbours; from one round to the next, for telemetry is sent while the
other has its turn. What a sidecar does by the clock counts twice so, as each is under load half of the time.

All that OTLP costs is spent by the supervisor: a worker does not even load it. So the cost is what one supervisor takes more than the
other, as a share of what a whole sidecar takes; workers, alike but for chance, are not compared. Blocks of rounds have new processes each,
since two alike differ by some percent, and the interval comes from drawing blocks and their rounds anew (bootstrap). A second sidecar
without OTLP tells how exact all that is.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
from harness.mail_sink import MailSink
from harness.postfix_configuration import free_port
from harness.quick_batches import AS_INSTALLED
from harness.sidecar import Sidecar, run

from bench.systems.pod import spoken, wait_until_well

CLIENT = "127.66.6.6"

LIMIT = 1.05
"""Of the CPU time a connection without OTLP: 5 % is what telemetry may cost (design)."""

CONFIDENCE = 0.95
DRAWS = 2000
"""Of the bootstrap: the interval's ends are then exact to some 2 % of its width."""

SETTLED = 2.0
"""Seconds after which what a start leaves to be done is done: the one that was started last would seem dearer."""

WARM_UP = 3
"""Rounds that are not counted: sockets to the endpoint, caches."""

POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rejectAction: Drop, rules: [{{action: Reject, cidrs: [{CLIENT}]}}]}}
  limits: {{connectionsPerClient: 0}}
"""

COLLECTOR = """
import sys, time
from telemetry.collector import grpc_collector
with grpc_collector() as found:
    print(found.url, flush=True)
    sys.stdin.read()
"""


def be_dropped(sidecar: Sidecar, times: int) -> None:
    """One connection after the other, each until the sidecar has closed it."""
    for _ in range(times):
        with socket.create_connection((sidecar.host, sidecar.port), 5.0, (CLIENT, 0)) as client:
            while client.recv(512):
                pass


class Spent(NamedTuple):
    """CPU time, nanoseconds."""

    supervisor: int
    workers: int

    def since(self, before: "Spent") -> "Spent":
        return Spent(self.supervisor - before.supervisor, self.workers - before.workers)


def spent(sidecar: Sidecar) -> Spent:
    """By all threads, so far."""

    def of(pid: int) -> int:
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)

    return Spent(of(sidecar.pid), sum(map(of, sidecar.workers())))


class Round(NamedTuple):
    """Nanoseconds: what the supervisor with the endpoint took more than the other, what a whole sidecar without one took, and how long the
    round was."""

    more: int
    whole: int
    lasted: int


Block = Sequence[Round]


def ratio(blocks: Sequence[Block]) -> float:
    return 1 + sum(each.more for block in blocks for each in block) / sum(
        each.whole for block in blocks for each in block
    )


def of_a_core(blocks: Sequence[Block]) -> float:
    """What OTLP takes, as a share of one core's time: traces are capped by the second, so that it hardly grows with more connections."""
    rounds = [each for block in blocks for each in block]
    return sum(each.more for each in rounds) / sum(each.lasted for each in rounds)


def interval(blocks: Sequence[Block], chance: random.Random) -> tuple[float, float]:
    """The ends of the ratio's confidence interval."""
    found = sorted(
        ratio([chance.choices(block, k=len(block)) for block in chance.choices(blocks, k=len(blocks))])
        for _ in range(DRAWS)
    )
    tail = round(DRAWS * (1 - CONFIDENCE) / 2)
    return found[tail], found[-1 - tail]


def conclusion(low: float, high: float) -> str:
    if high <= LIMIT:
        return "within"
    return "beyond" if low > LIMIT else "undecided"


def resident(sidecar: Sidecar) -> float:
    """MiB of the supervisor."""
    pages = int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@click.command()
@click.option("--blocks", default=6, show_default=True)
@click.option("--rounds", default=15, show_default=True, help="In each block.")
@click.option("--connections", default=150, show_default=True, help="To each of two sidecars in each round.")
def main(blocks: int, rounds: int, connections: int) -> None:
    """Measure; exit 1 if telemetry costs more than it may, 2 if more rounds are needed to tell."""
    chance = random.Random(0)  # noqa: S311  (no secret)
    measured: dict[str, list[Block]] = {}
    grown: dict[str, float] = {}
    with ExitStack() as running:
        endpoints = start_endpoints(running)
        # An operator each: to one, both would be the same pod, whose newer stream replaces the older.
        flags, others = start_surroundings(running), start_surroundings(running)
        for _ in range(blocks):
            for kind, url in endpoints.items():
                with started(flags, url) as one, started(others, "") as base:
                    time.sleep(SETTLED)
                    before = resident(one)
                    measured.setdefault(kind, []).append(measure(one, base, rounds, connections, chance))
                    grown[kind] = round(max(grown.get(kind, 0.0), resident(one) - before), 1)
    usual = statistics.mean(each.whole for found in measured.values() for block in found for each in block)
    cost = round(usual / connections / 1000, 1)
    click.echo(f"{cost} us of CPU time a dropped connection without OTLP")
    ratios = {}
    for kind, found in measured.items():
        low, high = interval(found, chance)
        ratios[kind] = {
            "ratio": round(ratio(found), 3),
            "interval": [round(low, 3), round(high, 3)],
            "median": round(
                1 + statistics.median(each.more / each.whole for block in found for each in block), 3
            ),
            "share_of_a_core": round(of_a_core(found), 4),
            "conclusion": conclusion(low, high),
        }
        click.echo(
            f"{kind:<10} {ratio(found):.3f} of that ({low:.3f} to {high:.3f} at {CONFIDENCE:.0%}): {conclusion(low, high)}, limit {LIMIT};"
            f" {of_a_core(found):.1%} of a core"
        )
    result = {
        "cpu_us_per_connection": cost,
        "connections": blocks * rounds * connections,
        "ratios": ratios,
        "grown_mib": grown,
        "limit": LIMIT,
    }
    click.echo(json.dumps(result))
    conclusions = {ratios[kind]["conclusion"] for kind in ratios if kind != "off again"}
    if conclusions != {"within"}:
        sys.exit(1 if "beyond" in conclusions else 2)


def start_endpoints(running: ExitStack) -> dict[str, str]:
    """By kind; all end with `running`."""
    silent = running.enter_context(socket.create_server(("127.0.0.1", 0)))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    live = running.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", COLLECTOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "tests"},
        )
    )
    assert live.stdin is not None
    assert live.stdout is not None
    running.callback(live.stdin.close)
    return {
        "off again": "",
        "dead": f"http://127.0.0.1:{dead}",
        "slow": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "live": live.stdout.readline().strip(),
    }


def start_surroundings(running: ExitStack) -> Sequence[str]:
    """Operator and mail server, which end with `running`; the flags by which a sidecar finds them."""
    folder = Path(running.enter_context(TemporaryDirectory(prefix="postwarden-bench-")))
    policies = folder / "policies"
    policies.mkdir()
    (policies / "policy.yaml").write_text(POLICY)
    operator = json.loads(running.enter_context(spoken("bench.files_operator", str(policies))))
    token = folder / "token"
    token.write_text(operator["token"])
    sink = running.enter_context(MailSink())
    return (
        f"--control={operator['address']}",
        f"--token-file={token}",
        f"--upstream={sink.address}",
        "--handoff=plain",
        "--log-format=json",
    )


@contextmanager
def started(flags: Sequence[str], url: str) -> Iterator[Sidecar]:
    """url: of the endpoint; "": none."""
    health = free_port("127.0.0.1", None)
    otlp = [f"--otlp-endpoint={url}"] if url else []
    with run(*flags, f"--health=127.0.0.1:{health}", *otlp, prefix=AS_INSTALLED) as sidecar:
        wait_until_well(health, "/readyz", sidecar)
        yield sidecar


def measure(one: Sidecar, base: Sidecar, rounds: int, connections: int, chance: random.Random) -> Block:
    found = []
    before, began = (spent(one), spent(base)), time.monotonic_ns()
    for turn in range(WARM_UP + rounds):
        for sidecar in chance.sample((one, base), 2):
            be_dropped(sidecar, connections)
        now, ended = (spent(one), spent(base)), time.monotonic_ns()
        if turn >= WARM_UP:
            mine, other = (after.since(earlier) for after, earlier in zip(now, before, strict=True))
            workers = (mine.workers + other.workers) // 2
            more, whole = mine.supervisor - other.supervisor, other.supervisor + workers
            found.append(Round(more, whole, ended - began))
        before, began = now, ended
    return found


if __name__ == "__main__":
    main()
