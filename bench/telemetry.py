"""`python -m bench.telemetry`: what telemetry costs screening, in CPU time a connection; the last line is JSON.

Contract: real sidecars (`postwarden up`), two at a time: one with an endpoint of some kind and one without OTLP. A client in this process
connects and is dropped so many times at each in turn, in an order that chance gives each round. Counted is the CPU time of a sidecar's
whole process group from one round to the next, for telemetry is sent while the other has its turn; what it does by the clock counts twice
so, as each is under load half of the time. CPU time, because a machine's speed is bounded by it, and wall time on shared cores tells of the
neighbours. Blocks of rounds have new processes each, since two alike differ by some percent. The ratio's interval comes from drawing blocks
and their rounds anew (bootstrap); a second sidecar without OTLP tells how exact all that is.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from harness.mail_sink import MailSink
from harness.sidecar import Sidecar, up

CLIENT = "127.66.6.6"

LIMIT = 1.05
"""Of the CPU time a connection without OTLP: 5 % is what telemetry may cost (design)."""

CONFIDENCE = 0.95
DRAWS = 2000
"""Of the bootstrap: the interval's ends are then exact to some 2 % of its width."""

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


def cpu_time(sidecar: Sidecar) -> int:
    """Nanoseconds that all threads of the supervisor and its workers have run."""
    threads = [
        thread for pid in (sidecar.pid, *sidecar.workers()) for thread in Path(f"/proc/{pid}/task").iterdir()
    ]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


Block = Sequence[tuple[int, int]]
"""A pair a round: nanoseconds with the endpoint, and without."""


def ratio(blocks: Sequence[Block]) -> float:
    return sum(each for block in blocks for each, _ in block) / sum(
        base for block in blocks for _, base in block
    )


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
@click.option("--blocks", default=3, show_default=True)
@click.option("--rounds", default=40, show_default=True, help="In each block.")
@click.option("--connections", default=150, show_default=True, help="To each of two sidecars in each round.")
def main(blocks: int, rounds: int, connections: int) -> None:
    """Measure; exit 1 if telemetry costs more than it may, 2 if more rounds are needed to tell."""
    chance = random.Random(0)  # noqa: S311  (no secret)
    measured: dict[str, list[Block]] = {}
    grown: dict[str, float] = {}
    with ExitStack() as running:
        endpoints = start_endpoints(running)
        sink = running.enter_context(MailSink())
        for _ in range(blocks):
            for kind, url in endpoints.items():
                with start(sink, url) as one, start(sink, "") as base:
                    before = resident(one)
                    measured.setdefault(kind, []).append(measure(one, base, rounds, connections, chance))
                    grown[kind] = round(max(grown.get(kind, 0.0), resident(one) - before), 1)
    usual = statistics.mean(base for found in measured.values() for block in found for _, base in block)
    cost = round(usual / connections / 1000, 1)
    click.echo(f"{cost} us of CPU time a dropped connection without OTLP")
    ratios = {}
    for kind, found in measured.items():
        low, high = interval(found, chance)
        ratios[kind] = {
            "ratio": round(ratio(found), 3),
            "interval": [round(low, 3), round(high, 3)],
            "median": round(statistics.median(each / base for block in found for each, base in block), 3),
            "conclusion": conclusion(low, high),
        }
        click.echo(
            f"{kind:<10} {ratio(found):.3f} of that ({low:.3f} to {high:.3f} at {CONFIDENCE:.0%}): {conclusion(low, high)}, limit {LIMIT}"
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


def start(sink: MailSink, url: str) -> Sidecar:
    """url: of the endpoint; "": none."""
    otlp = [f"--otlp-endpoint={url}"] if url else []
    return up(POLICY, *otlp, upstream=sink.address, handoff="plain", log_format="json")


def measure(one: Sidecar, base: Sidecar, rounds: int, connections: int, chance: random.Random) -> Block:
    found = []
    before = (cpu_time(one), cpu_time(base))
    for turn in range(WARM_UP + rounds):
        for sidecar in chance.sample((one, base), 2):
            be_dropped(sidecar, connections)
        now = (cpu_time(one), cpu_time(base))
        if turn >= WARM_UP:
            found.append((now[0] - before[0], now[1] - before[1]))
        before = now
    return found


if __name__ == "__main__":
    main()
