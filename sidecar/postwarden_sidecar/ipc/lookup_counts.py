"""Counts of DNSBL look-ups by zone and outcome: the part of the shared page behind its cells.

A table of names, which the supervisor writes before workers hear of the zones, and a block of cells for each worker and zone. Zones are
known by their templates: the key of a Secret is never here. A name stays to the end of the process and so do its counts, for they are
cumulative: a zone that a policy drops and takes up again goes on where it was. Zones beyond the table are counted together as OTHER.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from postwarden_sidecar.dns.outcome import NETWORK_OUTCOMES, Outcome

# Upper bounds, seconds, of postwarden.dnsbl.lookup.duration: a resolver's cache answers in a millisecond, a list within 200 ms, the
# next resolver is asked after 2 s, and the time limit is 10 s.
LOOKUP_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 10.0)
MAX_ZONES = 128  # of all policies since the start: four quite different ones, for a policy has 32 at most
OTHER = "_OTHER"  # no zone has an underscore at its begin and no dot; the conventions' word for what is not told apart

_NAME_BYTES = 256  # of a zone: a length, and a text of 189 bytes at most (LONGEST_ZONE of the policy)
_BUCKETS: Final = len(LOOKUP_BOUNDS) + 1
_OUTCOME_CELLS: Final = _BUCKETS + 1  # and the sum of durations, microseconds
_ZONE_CELLS: Final = (
    -(-len(NETWORK_OUTCOMES) * _OUTCOME_CELLS // 8) * 8
)  # whole cache lines, as the page's slots
_WORKER_CELLS: Final = 8 + MAX_ZONES * _ZONE_CELLS  # the first one counts all its look-ups
_NAMES_SIZE = MAX_ZONES * _NAME_BYTES


def size(workers: int) -> int:
    """Bytes; of memory only as many as there are zones and workers that look up."""
    return _NAMES_SIZE + workers * _WORKER_CELLS * 8


class LookupCounts:
    """memory: of that size, all zero at first."""

    def __init__(self, memory: memoryview) -> None:
        self._names = memory[:_NAMES_SIZE]
        self._cells = memory[_NAMES_SIZE:].cast("Q")

    def name_zones(self, templates: Iterable[str]) -> None:
        """For the supervisor: those without a place get one. Those that have none left, or that are too long, are counted as OTHER."""
        known = self.zones()
        places = iter(range(len(known), MAX_ZONES))
        for template in dict.fromkeys(templates):
            name = template.encode()
            if template in known or not 0 < len(name) < _NAME_BYTES:
                continue
            place = next(places, None)
            if place is None:
                return
            start = place * _NAME_BYTES
            self._names[start + 1 : start + 1 + len(name)] = name
            self._names[start] = len(name)  # last: a name is read once it has its length

    def zones(self) -> Mapping[str, int]:
        """The places of all zones that have one. OTHER's is 0."""
        found = {OTHER: 0}
        for place in range(1, MAX_ZONES):
            start = place * _NAME_BYTES
            length = self._names[start]
            if not length:
                break
            found[bytes(self._names[start + 1 : start + 1 + length]).decode()] = place
        return found

    def count(self, worker: int, place: int, outcome: Outcome, duration: float) -> None:
        """For that worker alone: a look-up has ended. duration: seconds."""
        cells, first = self._cells, worker * _WORKER_CELLS
        # A dict would ask Enum for a hash, which costs more than the search: the first two are nearly all.
        block = first + 8 + place * _ZONE_CELLS + NETWORK_OUTCOMES.index(outcome) * _OUTCOME_CELLS
        cells[first] += 1
        cells[block + bisect_left(LOOKUP_BOUNDS, duration)] += 1
        cells[block + _BUCKETS] += max(0, int(duration * 1_000_000))

    def totals(self) -> Iterator[tuple[str, Outcome, tuple[int, ...], int]]:
        """Zone, outcome, counts by LOOKUP_BOUNDS and the sum of durations in microseconds, over all workers."""
        # A worker that has looked up nothing is not read: its cells would take memory.
        starts = range(0, len(self._cells), _WORKER_CELLS)
        blocks = [start + 8 for start in starts if self._cells[start]]
        for zone, place in self.zones().items():
            for index, outcome in enumerate(NETWORK_OUTCOMES):
                offset = place * _ZONE_CELLS + index * _OUTCOME_CELLS
                cells = [self._cells[first + offset : first + offset + _OUTCOME_CELLS] for first in blocks]
                sums = [sum(values) for values in zip(*cells, strict=True)] or [0] * _OUTCOME_CELLS
                yield zone, outcome, tuple(sums[:_BUCKETS]), sums[_BUCKETS]

    def release(self) -> None:
        """Before the memory is unmapped."""
        self._names.release()
        self._cells.release()
