"""A sidecar that nobody talks to: its memory, and what it takes of a core for heartbeats, pings, exports and proofs."""

import time
from collections.abc import Sequence

from bench.figures.figure import Figure, Said
from bench.systems.pod import pod, policy
from bench.systems.sink import sink

NAME = "at-rest"
TITLE = "sidecar at rest, one worker"

SETTLE = 10.0
"""Seconds after the start: the first export, the rules to disk."""

REST = 60.0
"""Seconds that are measured: telemetry is exported and the stream pinged at intervals of up to 30 s."""

MIB = 2**20


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    with (
        sink(proxy=True) as upstream,
        pod([policy("  access: {myNetworks: []}\n")], upstream=upstream, handoff="proxy-v2") as started,
    ):
        time.sleep(SETTLE)
        before, began = started.group.cpu_seconds(), time.monotonic()
        time.sleep(REST * scale)
        spent, lasted = started.group.cpu_seconds() - before, time.monotonic() - began
        memory = started.group.memory()
        said(f"{NAME}: {memory / MIB:.1f} MiB, {spent / lasted:.2%} of a core over {lasted:.0f} s")
        return [
            Figure("PSS of the pod", memory / 1e6, "MB", at_most=90.0),
            Figure("CPU", 100 * spent / lasted, "% of a core", at_most=0.5),
        ]
