"""What an edit of a list changed: some rows, and the lines of those after them.

Contract: found without a look at the sources that did not change. What differs is taken as one run of rows, from the first that is not
what it was to the last: of two edits far apart in one source all between them counts as changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from postwarden_operator.compiler.rows import Columns, moved
from postwarden_operator.compiler.segment import Segment, in_common, joined, lines_of

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """addresses: of the rows that came, went, or changed, first and last; sorted. Of all others, a line above `after` has `shift` added."""

    addresses: tuple[Interval, ...]
    after: int
    shift: int


def difference(old: Sequence[Segment], new: Sequence[Segment], version: int) -> Difference:
    """Of one IP version."""
    most = min(len(old), len(new))
    begin = next((at for at in range(most) if old[at] is not new[at]), most)
    most -= begin
    end = next((at for at in range(most) if old[-1 - at] is not new[-1 - at]), most)
    was, now = old[begin : len(old) - end], new[begin : len(new) - end]
    lines_before, shift = lines_of(old[:begin]), lines_of(now) - lines_of(was)
    return _of_rows(joined(was, version), joined(now, version), lines_before, lines_of(was), shift)


def _of_rows(was: Columns, now: Columns, lines_before: int, lines: int, shift: int) -> Difference:
    start = min(len(was), len(now))
    for one, other in (*_said(was, now), (was.lines, now.lines)):
        start = in_common(one, other, start)
    end = min(len(was), len(now)) - start
    lines_moved = moved(was.lines, max(shift, 0)), moved(now.lines, max(-shift, 0))
    for one, other in (*_said(was, now), lines_moved):
        end = in_common(one[::-1], other[::-1], end)
    # A line of PostfixCIDR may give several rows: none of it may count as before the edit and another as after it.
    while start and end and was.lines[-end] <= was.lines[start - 1]:
        end -= 1
    addresses = [
        interval
        for rows in (was, now)
        for interval in zip(
            rows.firsts[start : len(rows) - end], rows.lasts[start : len(rows) - end], strict=True
        )
    ]
    after = was.lines[-end] - 1 if end else lines
    return Difference(tuple(sorted(addresses)), lines_before + after, shift)


def _said(one: Columns, other: Columns) -> tuple[tuple[Sequence[int], Sequence[int]], ...]:
    """All but the lines."""
    return (one.firsts, other.firsts), (one.lasts, other.lasts), (one.actions, other.actions)
