"""What a worker counts: cells of its own slot in the shared page. Metrics come from here and not from
records, so nothing waits."""

from __future__ import annotations

from bisect import bisect_left

from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.ipc.page import (
    ACTIONS,
    CELLS,
    DURATION_BOUNDS,
    HEARTBEAT,
    OUTCOMES,
    STAGES,
    TESTS,
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
_TESTS = {
    (test, outcome, action): CELLS[tests(test, outcome, action)]
    for test in TESTS
    for outcome in OUTCOMES
    for action in ACTIONS
}
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

    def count(self, record: Record, duration: float, times: int = 1) -> None:
        """A connection has its verdict after so many seconds, or several have the same."""
        cells, verdict = self._cells, record.verdict
        cells[_CONNECTIONS[verdict]] += times
        cells[_BUCKETS[verdict][bisect_left(DURATION_BOUNDS, duration)]] += times
        if duration > 0:
            cells[_SUMS[verdict]] += times * int(duration * 1_000_000)
        for result in record.tests:
            cells[_TESTS[result.test, result.outcome, result.action]] += times
