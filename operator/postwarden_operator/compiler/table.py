"""Interval tables as they go over the wire: formats `iv4/1` and `iv6/1` of screening.proto.

Contract: a large table is cut into shards, so that a changed line sends one shard and not a whole list: by the first eight bits of a
row's first address, at most 256 of them. Shards of one table, in order, are the table.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from itertools import groupby

from postwarden_operator.compiler.content import BlobContent
from postwarden_operator.compiler.rows import ADDRESS_BITS, Row

FORMATS = {4: "iv4/1", 6: "iv6/1"}
"""By IP version."""

SHARD_ABOVE = 8192
"""Rows: what is smaller goes whole, about 100 KiB of IPv4."""

_SHARD_BITS = 8
_LOW_64 = (1 << 64) - 1


def blobs_of(rows: Sequence[Row], version: int) -> list[BlobContent]:
    """The table of flattened rows as one blob, several shards, or (of no rows) none."""
    if len(rows) <= SHARD_ABOVE:
        return [_blob(rows, version)] if rows else []
    return [_blob(shard, version) for shard in _shards(rows, version)]


def _shards(rows: Sequence[Row], version: int) -> Iterator[list[Row]]:
    shift = ADDRESS_BITS[version] - _SHARD_BITS
    for _, shard in groupby(rows, key=lambda row: row[0] >> shift):
        yield list(shard)


def _blob(rows: Sequence[Row], version: int) -> BlobContent:
    data = encode(rows, version)
    return BlobContent(hashlib.sha256(data).hexdigest(), FORMATS[version], data)


def encode(rows: Sequence[Row], version: int) -> bytes:
    """Flattened rows as columns, little-endian."""
    firsts, lasts, actions, lines = zip(*rows, strict=True) if rows else ((), (), (), ())
    count = len(rows)
    if version == 4:
        addresses = struct.pack(f"<{count}I", *firsts) + struct.pack(f"<{count}I", *lasts)
    else:
        addresses = b"".join(
            struct.pack(f"<{count}Q", *part) for column in (firsts, lasts) for part in _halves(column)
        )
    return addresses + struct.pack(f"<{count}I", *lines) + bytes(actions)


def _halves(addresses: Sequence[int]) -> tuple[list[int], list[int]]:
    return [address >> 64 for address in addresses], [address & _LOW_64 for address in addresses]
