"""Interval tables as they go over the wire: formats `iv4/1` and `iv6/1` of screening.proto.

Contract: a table of more rows than a shard may have is cut in two at the middle of its addresses, and so on: borders are fixed address
prefixes, whatever the rows are. Shards of one table, in order, are the table. So a changed line changes the one shard that holds its
addresses (where a shard grows too large by it, that one becomes two), and lines added or taken away before it change none, as long as
a list is in the order of its addresses: a shard counts lines from its own first one, and the rules say how many come before.
"""

import hashlib
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from postwarden_operator.compiler.content import BlobContent
from postwarden_operator.compiler.rows import ADDRESS_BITS, Columns, moved

FORMATS = {4: "iv4/1", 6: "iv6/1"}
"""By IP version."""

ROW_SIZE = {4: 13, 6: 37}
"""Bytes, by IP version."""

LARGEST_SHARD = 64 * 1024
"""Bytes: one chunk of FetchBlob. A changed line costs a sidecar its shard and the snapshot, which names every shard in some 150 bytes: of a
million networks 58 and 33 KB. Shards of half the size would save 29 of the one, add 33 of the other, and double the calls of a first
transfer."""

MOST_ROWS = {version: LARGEST_SHARD // size for version, size in ROW_SIZE.items()}
"""Of a shard, by IP version."""

_LOW_64 = (1 << 64) - 1


class Shard(NamedTuple):
    """lines_before: what is to be added to its rows' lines, but to line 0. highest: the highest of these lines."""

    hash: str
    format: str
    lines_before: int
    highest: int


class Piece(NamedTuple):
    """Of a table: the addresses from `low` on that differ in their last `bits`; its rows are those from start up to end."""

    low: int
    bits: int
    start: int
    end: int

    @property
    def high(self) -> int:
        """The last of its addresses."""
        return self.low + (1 << self.bits) - 1


def pieces(rows: Columns) -> Iterator[Piece]:
    """By halves of the addresses, as long as a half has too many rows. A row that lies across a border is in both pieces. None is empty."""
    most = MOST_ROWS[rows.version]
    waiting = [Piece(0, ADDRESS_BITS[rows.version], 0, len(rows))]
    while waiting:
        piece = waiting.pop()
        low, bits, start, end = piece
        if end - start <= most:
            if start < end:
                yield piece
            continue
        middle = low + (1 << bits - 1)
        border = bisect_left(rows.firsts, middle, start, end)
        crosses = border > start and rows.lasts[border - 1] >= middle
        waiting.append(Piece(middle, bits - 1, border - 1 if crosses else border, end))
        waiting.append(Piece(low, bits - 1, start, border))


def shard(rows: Columns, piece: Piece) -> tuple[Shard, BlobContent]:
    """A piece of these rows as it goes over the wire."""
    cut = rows.cut(piece.start, piece.end)
    cut.firsts[0] = max(cut.firsts[0], piece.low)
    cut.lasts[-1] = min(cut.lasts[-1], piece.high)
    highest = max(cut.lines)
    # A table of one shard counts as the list does.
    before = max(min(cut.lines) - 1, 0) if piece.bits < ADDRESS_BITS[rows.version] else 0
    cut.lines = moved(cut.lines, -before)
    data = encode(cut)
    blob = BlobContent(hashlib.sha256(data).hexdigest(), FORMATS[rows.version], data)
    return Shard(blob.hash, blob.format, before, highest), blob


def encode(rows: Columns) -> bytes:
    """Flattened rows as columns, little-endian."""
    count = len(rows)
    if rows.version == 4:
        addresses = _little(rows.firsts) + _little(rows.lasts)
    else:
        addresses = b"".join(
            struct.pack(f"<{count}Q", *part)
            for column in (rows.firsts, rows.lasts)
            for part in ([each >> 64 for each in column], [each & _LOW_64 for each in column])
        )
    return addresses + _little(rows.lines) + bytes(rows.actions)


def _little(column: object) -> bytes:
    assert isinstance(column, array)
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()
