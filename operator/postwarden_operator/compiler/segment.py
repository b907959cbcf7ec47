"""What a list is made of: the rows of each of its sources, in order, each with lines of its own.

Contract: a segment never changes, and is kept from one compiling to the next: the same object stands for the same content. It finds the
rows that touch some addresses without a look at all of them, where they are in the order of their addresses.
"""

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

from postwarden_operator.compiler.rows import Columns, Row, Rows


class Segment:
    """rows: with lines from 1. lines: how many there are."""

    __slots__ = ("_reach", "lines", "rows")

    def __init__(self, rows: Rows, lines: int) -> None:
        self.rows = rows
        self.lines = lines
        self._reach = {version: _reach(rows.of(version)) for version in (4, 6)}
        """The highest address of a row and all before it, by IP version; None where rows are not in order."""

    def __len__(self) -> int:
        return len(self.rows.ipv4) + len(self.rows.ipv6)

    def touching(self, version: int, first: int, last: int) -> Iterator[Row]:
        """What rows say of the addresses from first to last, in the order of the list."""
        columns = self.rows.of(version)
        start, end, reach = 0, len(columns), self._reach[version]
        if reach is not None:
            start, end = bisect_left(reach, first), bisect_right(columns.firsts, last)
        ends = zip(columns.firsts[start:end], columns.lasts[start:end], strict=True)
        for at, (low, high) in enumerate(ends, start):
            if low <= last and high >= first:
                yield max(low, first), min(high, last), columns.actions[at], columns.lines[at]


def _reach(columns: Columns) -> Sequence[int] | None:
    if not all(map(operator.le, columns.firsts, islice(columns.firsts, 1, None))):
        return None
    reach = columns.lasts[:0]
    reach.extend(accumulate(columns.lasts, max))
    return columns.lasts if reach == columns.lasts else reach


def joined(segments: Iterable[Segment], version: int) -> Columns:
    """All rows, with lines counted through."""
    rows, lines_before = Columns(version), 0
    for segment in segments:
        rows.extend(segment.rows.of(version), lines_before=lines_before)
        lines_before += segment.lines
    return rows


def lines_of(segments: Iterable[Segment]) -> int:
    """How many lines there are."""
    return sum(segment.lines for segment in segments)


def in_common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """How many numbers are the same at the start, at most `most`. By halves: each is compared twice or so, in C."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
