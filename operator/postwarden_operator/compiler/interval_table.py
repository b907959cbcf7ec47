"""The table of a list for one IP version: made from nothing, or of what it was before an edit.

Contract: both give the same, shard by shard. After an edit only the rows that it touches are flattened again, and only the shards that
hold them, or in which some lines moved and some did not, are encoded again. Where that would not be less work it is made from nothing.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postwarden_operator.compiler.content import BlobContent
from postwarden_operator.compiler.difference import Difference, Interval, difference
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.rows import ADDRESS_BITS, Columns, moved
from postwarden_operator.compiler.segment import Segment, joined
from postwarden_operator.compiler.table import Piece, Shard, pieces, shard

NEAR = 64
"""Rows between two that changed, up to which all are flattened again together: that costs less than to begin anew (20 us)."""

MOST_REGIONS = 16
"""Places of an edit in the table, above which the table is made from nothing: each costs a look at all rows of sources that are not in
the order of their addresses, 50 ms for a million."""


@dataclass(frozen=True, slots=True)
class IntervalTable:
    """segments, left_out: what it was made of. rows: flat. shards: by the first address and the bits of their pieces, in order."""

    segments: tuple[Segment, ...]
    left_out: int | None
    rows: Columns
    shards: Mapping[tuple[int, int], Shard]


def table_of(
    segments: Sequence[Segment],
    version: int,
    *,
    left_out: int | None = None,
    before: IntervalTable | None = None,
    has: Callable[[str], bool] = lambda _: False,
) -> tuple[IntervalTable, list[BlobContent]]:
    """And its new blobs. before: the table of this list as it was. has: whether a blob, by its hash, need not be given again."""
    changed = None
    if before is not None and before.left_out == left_out:
        found = difference(before.segments, segments, version)
        regions = _regions(before.rows, found.addresses)
        if len(regions) <= MOST_REGIONS:
            changed = _Change(version, found, regions)
    if before is None or changed is None:
        rows = flatten(joined(segments, version), left_out=left_out)
    else:
        rows = _patched(before.rows, segments, changed, left_out)
    shards: dict[tuple[int, int], Shard] = {}
    blobs: list[BlobContent] = []
    for piece in pieces(rows):
        place = piece.low, piece.bits
        kept = before.shards.get(place) if before is not None and changed is not None else None
        made = None if kept is None or changed is None else changed.reused(piece, kept)
        if made is None or not has(made.hash):
            made, blob = shard(rows, piece)
            if not has(blob.hash):
                blobs.append(blob)
        shards[place] = made
    return IntervalTable(tuple(segments), left_out, rows, shards), blobs


class _Region(NamedTuple):
    """Addresses that are looked at anew, both inclusive; they hold the old rows from start up to end, and no other in part."""

    first: int
    last: int
    start: int
    end: int


def _regions(rows: Columns, addresses: Sequence[Interval]) -> list[_Region]:
    """addresses: sorted. A row beside them may become one with what changed: it is looked at anew, too."""
    regions: list[_Region] = []
    for interval in addresses:
        region = _region(rows, *interval)
        if regions and region.start - regions[-1].end <= NEAR:
            last = regions.pop()
            region = _Region(last.first, max(last.last, region.last), last.start, max(last.end, region.end))
        regions.append(region)
    return regions


def _region(rows: Columns, first: int, last: int) -> _Region:
    start = bisect_right(rows.firsts, first - 1) if first else 0
    if start and rows.lasts[start - 1] >= first - 1:
        start -= 1
        first = rows.firsts[start]
    end = bisect_right(rows.firsts, last + 1)
    if end > start:
        last = max(last, rows.lasts[end - 1])
    return _Region(first, last, start, end)


def _patched(old: Columns, segments: Sequence[Segment], changed: "_Change", left_out: int | None) -> Columns:
    """The old rows, but those of the regions, with their lines as they are now, and what the regions hold now."""
    rows, taken = Columns(old.version), 0
    for region in changed.regions:
        rows.extend(changed.kept(old, taken, region.start))
        touching, lines_before = Columns(old.version), 0
        for segment in segments:
            found = Columns(old.version, segment.touching(old.version, region.first, region.last))
            touching.extend(found, lines_before=lines_before)
            lines_before += segment.lines
        rows.extend(flatten(touching, left_out=left_out))
        taken = region.end
    rows.extend(changed.kept(old, taken, len(old)))
    return rows


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    difference: Difference
    regions: Sequence[_Region]

    def kept(self, old: Columns, start: int, end: int) -> Columns:
        """Old rows that say the same still."""
        rows = old.cut(start, end)
        after, shift = self.difference.after, self.difference.shift
        if not shift or not rows or max(rows.lines) <= after:
            return rows
        if min(rows.lines) > after:
            rows.lines = moved(rows.lines, shift)
        else:
            rows.lines = array("I", [line + shift if line > after else line for line in rows.lines])
        return rows

    def reused(self, piece: Piece, shard: Shard) -> Shard | None:
        """The shard of these addresses as it is now; None where it must be made anew."""
        at = bisect_right(self.regions, piece.high, key=lambda region: region.first)
        if at and self.regions[at - 1].last >= piece.low:
            return None
        after, shift = self.difference.after, self.difference.shift
        if not shift or shard.highest <= after:
            return shard
        if shard.lines_before < after or piece.bits == ADDRESS_BITS[self.version]:
            return None
        return shard._replace(lines_before=shard.lines_before + shift, highest=shard.highest + shift)
