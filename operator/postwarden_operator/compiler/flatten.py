"""Rows of which the first match wins become disjoint intervals.

Contract: `flatten` gives disjoint rows, sorted, that give each address what the first row that holds it gives. Where a row with the
action `left_out` wins, nothing is given. Neighbours with the same action and line are one row. Most lists hardly overlap: what does
not is only sorted, by loops within Python's own C (0.1 s for a million rows in order, 1 s for a million in none); what does goes
through a sweep over the addresses with the rows that hold the current one in a heap: O(n log n), 3 s for a million.
"""

import operator
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import compress, islice

from postwarden_operator.compiler.rows import ADDRESS_BITS, Columns, Row


def flatten(rows: Columns, *, left_out: int | None = None) -> Columns:
    """See the module."""
    order, by_first = _sorted(rows)
    if _simple(by_first):
        return _without(by_first, left_out)
    flat = Columns(rows.version)
    taken = 0
    for start, end in _knots(by_first):
        flat.extend(by_first.cut(taken, start))
        knot = sorted(order[start:end])
        for row in _sweep([rows[index] for index in knot], rows.version):
            flat.append(row)
        taken = end
    flat.extend(by_first.cut(taken, len(by_first)))
    return _without(_merged(flat), left_out)


def _sorted(rows: Columns) -> tuple[Sequence[int], Columns]:
    """Rows by first address, and where each stood."""
    firsts = rows.firsts
    if all(map(operator.le, firsts, islice(firsts, 1, None))):
        return range(len(rows)), rows
    # One number each, address above place: that takes half the time of places sorted by a key, as they are made anew in their order.
    bits = len(rows).bit_length()
    mask = (1 << bits) - 1
    order = [each & mask for each in sorted([first << bits | at for at, first in enumerate(firsts)])]
    columns = (
        map(column.__getitem__, order) for column in (rows.firsts, rows.lasts, rows.actions, rows.lines)
    )
    return order, Columns.of(rows.version, *columns)


def _simple(rows: Columns) -> bool:
    """No row overlaps the next, nor says the same as it."""
    disjoint = all(map(operator.lt, rows.lasts, islice(rows.firsts, 1, None)))
    return disjoint and not any(map(operator.eq, rows.lines, islice(rows.lines, 1, None)))


def _knots(rows: Columns) -> Iterator[tuple[int, int]]:
    """Runs of rows that overlap, as (start, end); rows are sorted by first address."""
    start, highest = 0, -1
    for index, (first, last) in enumerate(zip(rows.firsts, rows.lasts, strict=True)):
        if first > highest:
            if index - start > 1:
                yield start, index
            start = index
        if last > highest:
            highest = last
    if len(rows) - start > 1:
        yield start, len(rows)


def _sweep(rows: Sequence[Row], version: int) -> Iterator[Row]:
    """rows: in the order of the list."""
    bits = ADDRESS_BITS[version]
    mask = (1 << bits) - 1
    by_first = sorted(range(len(rows)), key=lambda index: rows[index][0])
    # One number each, precedence above last address: numbers compare several times as fast as tuples.
    holding: list[int] = []
    position, upcoming = 0, 0
    while upcoming < len(by_first) or holding:
        if not holding:
            position = max(position, rows[by_first[upcoming]][0])
        while upcoming < len(by_first) and rows[by_first[upcoming]][0] <= position:
            index = by_first[upcoming]
            heappush(holding, index << bits | rows[index][1])
            upcoming += 1
        while holding and holding[0] & mask < position:
            heappop(holding)
        if not holding:
            continue
        _, _, action, line = rows[holding[0] >> bits]
        last = holding[0] & mask
        if upcoming < len(by_first):
            last = min(last, rows[by_first[upcoming]][0] - 1)
        yield position, last, action, line
        position = last + 1


def _merged(rows: Columns) -> Columns:
    """Rows are disjoint and sorted; neighbours that say the same become one."""
    merged = Columns(rows.version)
    for row in rows:
        same = merged and merged.lines[-1] == row[3] and merged.actions[-1] == row[2]
        if same and merged.lasts[-1] + 1 == row[0]:
            merged.lasts[-1] = row[1]
        else:
            merged.append(row)
    return merged


def _without(rows: Columns, left_out: int | None) -> Columns:
    if left_out is None or left_out not in rows.actions:
        return rows
    kept = [action != left_out for action in rows.actions]
    columns = (compress(column, kept) for column in (rows.firsts, rows.lasts, rows.actions, rows.lines))
    return Columns.of(rows.version, *columns)
