"""The shared page: one memory file that all processes of a sidecar map.

Each process writes the cells of its own slot only, so no lock is needed: an aligned 8-byte store is atomic on
what we run on. Sums over all slots decide limits and are the metrics; counters are cumulative and survive a
worker's death, gauges are zeroed by the supervisor then. Metrics are exact whatever is sampled, for they come
from here and not from records.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc import lookup_counts, pass_filter
from postwarden_sidecar.ipc.lookup_counts import LookupCounts
from postwarden_sidecar.ipc.pass_filter import PassFilter

MAX_WORKERS = 64  # slots; more cores than this are left to other pods
SUPERVISOR = MAX_WORKERS  # one more slot, which the supervisor writes
TESTS = ("access", "pregreet", "dnsbl", "pipelining", "non_smtp_command", "bare_newline")
OUTCOMES = ("pass", "fail", "unknown")
ACTIONS = ("", "Ignore", "Enforce", "Drop")
STAGES = ("screening", "dialog", "handoff", "relay")
# Upper bounds, seconds, of postwarden.screening.duration; a drop takes about 30 us, the greeting's wait is 6
# s, a time limit 300 s.
DURATION_BOUNDS = (
    0.0001,
    0.0005,
    0.001,
    0.005,
    0.025,
    0.1,
    0.5,
    1.0,
    2.0,
    4.0,
    6.0,
    7.5,
    10.0,
    30.0,
    60.0,
    300.0,
)

HEARTBEAT = "heartbeat_ms"  # gauge: CLOCK_MONOTONIC, milliseconds
SCREENING = "screening"  # gauge: connections in our hands, not yet given to the MTA
UPSTREAM = "upstream"  # gauge: clients given to the MTA, which has not answered them yet
SUSPECT = "suspect"  # gauge: 1 while clients' addresses seem to be lost
# gauge, the supervisor's: 1 while clients are not steered to the workers as they should be: one worker serves, or an older way is in force
STEERING_FAILED = "steering_failed"
# This worker's last decision on stress mode: twice CLOCK_MONOTONIC nanoseconds, plus 1 if it began. The newest of all is in force, so
# that it outlives its worker.
STRESS = "stress"
RECORDS_DROPPED = "records_dropped"


def connections(verdict: Verdict) -> str:
    """Name of the counter of connections by verdict."""
    return f"connections/{verdict}"


def tests(test: str, outcome: str, action: str) -> str:
    """Name of the counter of test results."""
    return f"tests/{test}/{outcome}/{action}"


def duration_bucket(verdict: Verdict, index: int) -> str:
    """Name of the counter of one histogram bucket (not cumulative over buckets); index len(DURATION_BOUNDS)
    is the overflow."""
    return f"duration/{verdict}/{index}"


def duration_sum(verdict: Verdict) -> str:
    """Name of the sum of durations, microseconds, by verdict."""
    return f"duration_sum_us/{verdict}"


def active(stage: str) -> str:
    """Name of the gauge of connections that are open now, by stage."""
    return f"active/{stage}"


GAUGES = (HEARTBEAT, SCREENING, UPSTREAM, SUSPECT, STEERING_FAILED, *(active(stage) for stage in STAGES))
COUNTERS = (
    *(connections(verdict) for verdict in Verdict),
    *(tests(test, outcome, action) for test in TESTS for outcome in OUTCOMES for action in ACTIONS),
    *(duration_bucket(verdict, index) for verdict in Verdict for index in range(len(DURATION_BOUNDS) + 1)),
    *(duration_sum(verdict) for verdict in Verdict),
    RECORDS_DROPPED,
)
CELLS = {name: index for index, name in enumerate((*GAUGES, STRESS, *COUNTERS))}
_SLOT_CELLS = -(-len(CELLS) // 8) * 8  # whole cache lines of 64 bytes: two workers never write the same one
_SLOTS_SIZE = (MAX_WORKERS + 1) * _SLOT_CELLS * 8  # bytes
_COUNT_SIZE = 8  # bytes, the last: how many workers there are
_PASSES_AT = _SLOTS_SIZE + lookup_counts.size(MAX_WORKERS)  # bytes from the beginning
SIZE = _PASSES_AT + pass_filter.SIZE + _COUNT_SIZE  # bytes


class Page:
    """A mapping of the page. The supervisor creates it, workers open it by the inherited descriptor. lookups: of block lists, by zone.
    passes: whom the pass store may know."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory file. Raises OSError or ValueError if it is not such a file."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        memory = memoryview(self._map)
        self._cells = memory[:_SLOTS_SIZE].cast("Q")
        self.lookups = LookupCounts(memory[_SLOTS_SIZE:_PASSES_AT])
        self.passes = PassFilter(memory[_PASSES_AT:-_COUNT_SIZE])
        self._count = memory[-_COUNT_SIZE:].cast("Q")
        self._columns: dict[str, memoryview] = {}

    @classmethod
    def create(cls, workers: int = MAX_WORKERS) -> Page:
        """A new page, all zero. workers: that will write to it."""
        descriptor = os.memfd_create("postwarden-page", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, SIZE)
        page = cls(descriptor)
        page._count[0] = workers
        return page

    def slot(self, worker: int) -> memoryview:
        """The cells of one worker, to be indexed by CELLS; only that worker writes there."""
        return self._cells[worker * _SLOT_CELLS : worker * _SLOT_CELLS + len(CELLS)]

    def column(self, name: str) -> memoryview:
        """A cell of each worker, without the supervisor's: a sum over these few takes 0.1 us, over all slots 0.6. It is there up to
        `close`."""
        if name not in self._columns:
            first = CELLS[name]
            self._columns[name] = self._cells[first : first + self._count[0] * _SLOT_CELLS : _SLOT_CELLS]
        return self._columns[name]

    def total(self, name: str) -> int:
        """Sum of a cell over all workers."""
        return sum(self._cells[CELLS[name] :: _SLOT_CELLS])

    def newest(self, name: str) -> int:
        """The largest value of a cell among all workers."""
        return max(self._cells[CELLS[name] :: _SLOT_CELLS])

    def totals(self) -> Iterator[tuple[str, int]]:
        """Every counter and gauge with its sum over all workers; those of times have no meaning and are left out."""
        for name in CELLS:
            if name not in (HEARTBEAT, STRESS):
                yield name, self.total(name)

    def zero_gauges(self, worker: int) -> None:
        """The worker is dead: none of its connections are open."""
        cells = self.slot(worker)
        for name in GAUGES:
            cells[CELLS[name]] = 0

    def close(self) -> None:
        """Unmap; the descriptor stays its owner's."""
        for column in self._columns.values():
            column.release()
        self._cells.release()
        self._count.release()
        self.lookups.release()
        self.passes.release()
        self._map.close()
