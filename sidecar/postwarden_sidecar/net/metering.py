"""What a worker counts: cells of its own slot in the shared page. Metrics come from here and not from
records, so nothing waits."""

from __future__ import annotations

from bisect import bisect_left

from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.ipc.page import (
    CELLS,
    DURATION_BOUNDS,
    HEARTBEAT,
    STAGES,
    active,
    connections,
    duration_bucket,
    duration_sum,
    tests,
)

_ACTIVE = {stage: CELLS[active(stage)] for stage in STAGES}
_CONNECTIONS = {verdict: CELLS[connections(verdict)] for verdict in Verdict}
_BUCKETS = {
    verdict: [CELLS[duration_bucket(verdict, index)] for index in range(len(DURATION_BOUNDS) + 1)]
    for verdict in Verdict
}
_SUMS = {verdict: CELLS[duration_sum(verdict)] for verdict in Verdict}
_HEARTBEAT = CELLS[HEARTBEAT]


class Meter:
    """Writes one slot of the page."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def beat(self, now: float) -> None:
        """The loop turns. now: CLOCK_MONOTONIC seconds."""
        self._cells[_HEARTBEAT] = int(now * 1000)

    def move(self, before: str, after: str) -> None:
        """A connection changes its stage; "" is outside."""
        if before != after:
            if before:
                self._cells[_ACTIVE[before]] -= 1
            if after:
                self._cells[_ACTIVE[after]] += 1

    def count(self, record: Record) -> None:
        """A connection has its verdict."""
        cells = self._cells
        cells[_CONNECTIONS[record.verdict]] += 1
        cells[_BUCKETS[record.verdict][bisect_left(DURATION_BOUNDS, record.duration)]] += 1
        cells[_SUMS[record.verdict]] += max(0, int(record.duration * 1_000_000))
        for result in record.tests:
            cells[CELLS[tests(result.test, result.outcome, result.action)]] += 1
