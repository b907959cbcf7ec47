"""`python -m bench.telemetry`: what telemetry costs screening, as ratios to a sidecar without OTLP; the last line is JSON.

Contract: real sidecars (`postwarden up`), one for each kind of endpoint, all running; a client in this process connects and is dropped, as
fast as it goes, at each in turn. Ratios are of measurements next to each other, so that what else the machine does falls out.
One sidecar more without OTLP tells how exact that is. All share this machine's cores with the client.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click
from harness.mail_sink import MailSink
from harness.sidecar import Sidecar, up

CLIENT = "127.66.6.6"

LIMIT = 0.95
"""Of the speed without OTLP: 5 % is what telemetry may cost (design)."""

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


def drops_per_second(sidecar: Sidecar, seconds: float) -> float:
    """One connection after the other, each until the sidecar has closed it."""
    count, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        with socket.create_connection((sidecar.host, sidecar.port), 5.0, (CLIENT, 0)) as client:
            while client.recv(512):
                pass
        count += 1
    return count / (time.monotonic() - begin)


def resident(sidecar: Sidecar) -> float:
    """MiB of the supervisor."""
    pages = int(Path(f"/proc/{sidecar.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@click.command()
@click.option("--rounds", default=40, show_default=True)
@click.option("--seconds", default=0.2, show_default=True, help="Of each measurement.")
def main(rounds: int, seconds: float) -> None:
    """Measure, and exit with 1 if screening is slower than it may be."""
    with ExitStack() as running:
        sink = running.enter_context(MailSink())
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
        endpoints = {
            "off": "",
            "off again": "",
            "dead": f"http://127.0.0.1:{dead}",
            "slow": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "live": live.stdout.readline().strip(),
        }
        sidecars = {
            kind: running.enter_context(
                up(
                    POLICY,
                    *([f"--otlp-endpoint={url}"] if url else []),
                    upstream=sink.address,
                    handoff="plain",
                    log_format="json",
                )
            )
            for kind, url in endpoints.items()
        }
        for sidecar in sidecars.values():
            drops_per_second(sidecar, seconds)
        before = {kind: resident(sidecar) for kind, sidecar in sidecars.items()}
        ratios: dict[str, list[float]] = {kind: [] for kind in endpoints if kind != "off"}
        speeds = []
        chance = random.Random(0)  # noqa: S311  (no secret)
        for _ in range(rounds):
            order = chance.sample(list(sidecars), len(sidecars))
            measured = {kind: drops_per_second(sidecars[kind], seconds) for kind in order}
            speeds.append(measured["off"])
            for kind, found in ratios.items():
                found.append(measured[kind] / measured["off"])
        grown = {kind: round(resident(sidecar) - before[kind], 1) for kind, sidecar in sidecars.items()}
        live.stdin.close()
    medians = {kind: round(statistics.median(found), 3) for kind, found in ratios.items()}
    for kind, median in medians.items():
        spread = statistics.quantiles(ratios[kind], n=4)
        click.echo(
            f"{kind:<10} {median:.3f} of the speed without OTLP (quartiles {spread[0]:.3f}, {spread[2]:.3f})"
        )
    result = {
        "drops_per_second": round(statistics.median(speeds)),
        "ratios": medians,
        "grown_mib": grown,
        "limit": LIMIT,
    }
    click.echo(json.dumps(result))
    if min(medians[kind] for kind in ("dead", "slow", "live")) < LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
