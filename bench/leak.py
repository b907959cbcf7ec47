"""`python -m bench.leak`: a million clients of every kind at one sidecar, and what its processes hold meanwhile; the last line is JSON.

Contract: a real sidecar (`postwarden up`, one worker) with log and metrics on, an MTA in this process behind it, and the storm of
`harness.storm_clients`: refused, passed, relayed, and gone or reset at each stage. Looked at when no client is there: descriptors and
memory of supervisor and worker, after each twentieth part. Exit status 1 if a descriptor more is open at the end than at the beginning, or
if a process has grown by more than `LIMIT` since the first tenth, by when all that is bounded is full (passes of clients, queues).
"""

import json
import os
import sys
import time

import click
from harness.metrics_page import total
from harness.polling import poll
from harness.quick_mta import QuickMta
from harness.sidecar import Sidecar, up
from harness.storm import Storm
from harness.storm_clients import ALL, POLICY
from harness.usage import descriptors, processor_seconds, resident
from loopback_ports import free_ports

LIMIT = 4.0
"""MiB: 5 bytes a connection over the nine tenths that are compared. Any object that is lost takes ten times that."""

PARTS = 20
SETTLED = 60.0
"""Seconds until the sidecar has counted all clients and closed their sockets; one is usual."""

Held = dict[str, tuple[int, float]]


def held(sidecar: Sidecar) -> Held:
    """Descriptors and MiB of each process."""
    (worker,) = sidecar.workers()
    named = {"supervisor": sidecar.pid, "worker": worker}
    return {name: (descriptors(pid), round(resident(pid), 1)) for name, pid in named.items()}


@click.command()
@click.option("--connections", default=1_000_000, show_default=True)
def main(connections: int) -> None:
    """Play the clients and look at what stays."""
    (port,) = free_ports(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    began = time.monotonic()
    seen: list[Held] = []
    with (
        QuickMta() as mta,
        up(
            POLICY,
            f"--metrics=127.0.0.1:{port}",
            upstream=mta.address,
            handoff="plain",
            log_format="json",
            log=nowhere,
        ) as sidecar,
    ):
        storm = Storm(sidecar.host, sidecar.port, ALL, concurrency=400)
        storm.run(len(ALL) * 10)  # each kind has been there: what is opened once is open
        settle(sidecar, port, storm)
        opened = {name: count for name, (count, _) in held(sidecar).items()}
        workers = sidecar.workers()
        for part in range(1, PARTS + 1):
            storm.run(connections * part // PARTS - connections * (part - 1) // PARTS)
            settle(sidecar, port, storm)
            seen.append(held(sidecar))
            shown = ", ".join(
                f"{name} {fds} descriptors {size} MiB" for name, (fds, size) in seen[-1].items()
            )
            click.echo(f"{sum(storm.ended.values()):>9,} connections: {shown}")
        processor = sum(processor_seconds(pid) for pid in (sidecar.pid, *workers))
        same = sidecar.workers() == workers
    growth = {name: round(seen[-1][name][1] - seen[PARTS // 10 - 1][name][1], 1) for name in opened}
    leaked = {name: seen[-1][name][0] - count for name, count in opened.items()}
    result = {
        "connections": sum(storm.ended.values()),
        "kinds": len(ALL),
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(processor, 1),
        "descriptors_leaked": leaked,
        "memory_mib": {name: seen[-1][name][1] for name in opened},
        "growth_mib": growth,
        "worker_survived": same,
    }
    click.echo(json.dumps(result))
    if not same or any(leaked.values()) or max(growth.values()) > LIMIT:
        sys.exit(1)


def settle(sidecar: Sidecar, port: int, storm: Storm) -> None:
    """Until all connections are counted and none is open. Raises TimeoutError."""
    wanted = sum(storm.ended.values())

    def counted() -> bool:
        found = total(port, "postwarden_connections_total")
        return found == wanted and total(port, "postwarden_connections_active") == 0

    poll(counted, SETTLED, lambda: f"{total(port, 'postwarden_connections_total')} of {wanted} are counted")


if __name__ == "__main__":
    main()
