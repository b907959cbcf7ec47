"""Address tables: disjoint, sorted intervals of addresses in columns over a buffer, searched by bisection.

A table holds up to one IPv4 and one IPv6 part, each as the wire's blobs `iv4/1` and `iv6/1` (screening.proto) have it; the blobs of a
family are consecutive shards. Nothing is copied out of the buffers and no object is made per network, so a million networks
in a mapped file cost the workers that share it no memory and a start no time. Not a radix tree: bisection in C over a memoryview
takes a microsecond at a million rows, and the table is usable as it lies on disk.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ROW4 = 4 + 4 + 4 + 1  # bytes of a row of `iv4/1`: start, end, line, action
ROW6 = 8 + 8 + 8 + 8 + 4 + 1  # bytes of a row of `iv6/1`: start and end in two halves, line, action
_ACTIONS = (1, 2, 3)  # what the action column may hold (AccessAction)


class BadTable(ValueError):
    """The bytes are no table of the named format; the message says why in one sentence."""


class _Shard4(NamedTuple):
    starts: memoryview
    ends: memoryview
    lines: memoryview
    actions: memoryview
    raw: memoryview


class _Shard6(NamedTuple):
    starts: memoryview  # high halves
    starts_low: memoryview
    ends: memoryview  # high halves
    ends_low: memoryview
    lines: memoryview
    actions: memoryview
    raw: memoryview


class AddressTable:
    """address -> (action, line) over shards of `iv4/1` and `iv6/1`. Two tables are equal if their bytes are."""

    __slots__ = ("_first4", "_first6", "_shards4", "_shards6")

    def __init__(self, v4: Sequence[Buffer] = (), v6: Sequence[Buffer] = ()) -> None:
        """v4, v6: shards, each in the wire's format, in ascending order of their addresses. Raises BadTable for a size that is no
        whole number of rows and for shards out of order; rows are judged by `verify`, for that reads all of them."""
        self._shards4 = tuple(_shard4(shard) for shard in v4 if len(shard))
        self._shards6 = tuple(_shard6(shard) for shard in v6 if len(shard))
        self._first4 = [shard.starts[0] for shard in self._shards4]
        self._first6 = [(shard.starts[0] << 64) | shard.starts_low[0] for shard in self._shards6]
        if sorted(set(self._first4)) != self._first4 or sorted(set(self._first6)) != self._first6:
            raise BadTable("the shards of an address table are not in ascending order")

    @classmethod
    def from_networks(cls, rows: Iterable[tuple[Network | str, int, int]]) -> AddressTable:
        """A table of (network, action, line); networks must not overlap. For tests and small built-in sets."""
        parsed = [(ipaddress.ip_network(network), action, line) for network, action, line in rows]
        v4 = sorted((int(n[0]), int(n[-1]), a, line) for n, a, line in parsed if n.version == 4)
        v6 = sorted((int(n[0]), int(n[-1]), a, line) for n, a, line in parsed if n.version == 6)
        table = cls([encode4(v4)], [encode6(v6)])
        table.verify()
        return table

    @property
    def v4(self) -> tuple[memoryview, ...]:
        """The shards of `iv4/1`, as they were given."""
        return tuple(shard.raw for shard in self._shards4)

    @property
    def v6(self) -> tuple[memoryview, ...]:
        """The shards of `iv6/1`, as they were given."""
        return tuple(shard.raw for shard in self._shards6)

    def __len__(self) -> int:
        """Rows of both families."""
        return sum(len(shard.lines) for shard in self._shards4) + sum(
            len(shard.lines) for shard in self._shards6
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressTable):
            return NotImplemented
        return self.v4 == other.v4 and self.v6 == other.v6

    __hash__ = None  # type: ignore[assignment]  # equal by content, and the content is not cheap to hash

    def __repr__(self) -> str:
        return f"AddressTable({len(self)} rows)"

    def lookup(self, packed: bytes) -> tuple[int, int] | None:
        """(action, line) of the row that holds the address (4 or 16 bytes in network order), or None."""
        if len(packed) == 4:
            return self._lookup4(int.from_bytes(packed, "big"))
        return self._lookup6(int.from_bytes(packed, "big"))

    def _lookup4(self, address: int) -> tuple[int, int] | None:
        which = bisect_right(self._first4, address) - 1
        if which < 0:
            return None
        shard = self._shards4[which]
        row = bisect_right(shard.starts, address) - 1
        if shard.ends[row] < address:
            return None
        return shard.actions[row], shard.lines[row]

    def _lookup6(self, address: int) -> tuple[int, int] | None:
        which = bisect_right(self._first6, address) - 1
        if which < 0:
            return None
        shard = self._shards6[which]
        high, low = address >> 64, address & 0xFFFF_FFFF_FFFF_FFFF
        # Rows that share the high half lie together; among them the low half decides.
        after = bisect_right(shard.starts, high)
        row = after - 1
        if shard.starts[row] == high:
            first = bisect_right(shard.starts, high - 1) if high else 0
            row = bisect_right(shard.starts_low, low, first, after) - 1
        if row < 0 or (shard.ends[row], shard.ends_low[row]) < (high, low):
            return None
        return shard.actions[row], shard.lines[row]

    def verify(self) -> None:
        """Read every row. Raises BadTable for rows that overlap, are out of order, end before they start, or have an unknown action."""
        for shards, intervals in ((self._shards4, _intervals4), (self._shards6, _intervals6)):
            previous = -1
            for shard in shards:
                for row, (start, end) in enumerate(intervals(shard)):  # type: ignore[operator]  # each with its own kind of shard
                    if not previous < start <= end:
                        raise BadTable(f"row {row} of an address table overlaps another or is out of order")
                    previous = end
                if any(action not in _ACTIONS for action in set(shard.actions)):
                    raise BadTable("an address table has an action that is none of Permit, Reject and Dunno")


def encode4(rows: Sequence[tuple[int, int, int, int]]) -> bytes:
    """`iv4/1` of (start, end, action, line), sorted."""
    return b"".join(
        [
            *(row[0].to_bytes(4, "little") for row in rows),
            *(row[1].to_bytes(4, "little") for row in rows),
            *(row[3].to_bytes(4, "little") for row in rows),
            bytes(row[2] for row in rows),
        ]
    )


def encode6(rows: Sequence[tuple[int, int, int, int]]) -> bytes:
    """`iv6/1` of (start, end, action, line), sorted."""
    low = 0xFFFF_FFFF_FFFF_FFFF
    return b"".join(
        [
            *((row[0] >> 64).to_bytes(8, "little") for row in rows),
            *((row[0] & low).to_bytes(8, "little") for row in rows),
            *((row[1] >> 64).to_bytes(8, "little") for row in rows),
            *((row[1] & low).to_bytes(8, "little") for row in rows),
            *(row[3].to_bytes(4, "little") for row in rows),
            bytes(row[2] for row in rows),
        ]
    )


def _shard4(blob: Buffer) -> _Shard4:
    raw = memoryview(blob).toreadonly().cast("B")
    n, rest = divmod(len(raw), ROW4)
    if rest:
        raise BadTable(f"{len(raw)} bytes are no whole number of rows of iv4/1 ({ROW4} bytes each)")
    return _Shard4(*_columns(raw, n, "III"), raw)  # type: ignore[arg-type]


def _shard6(blob: Buffer) -> _Shard6:
    raw = memoryview(blob).toreadonly().cast("B")
    n, rest = divmod(len(raw), ROW6)
    if rest:
        raise BadTable(f"{len(raw)} bytes are no whole number of rows of iv6/1 ({ROW6} bytes each)")
    return _Shard6(*_columns(raw, n, "QQQQI"), raw)  # type: ignore[arg-type]


def _columns(raw: memoryview, n: int, formats: str) -> list[memoryview]:
    """The columns of native integers, then the column of actions. Little-endian machines only: so are all that we run on."""
    columns = []
    at = 0
    for code in formats:
        size = {"I": 4, "Q": 8}[code] * n
        columns.append(raw[at : at + size].cast(code))
        at += size
    columns.append(raw[at:])
    return columns


def _intervals4(shard: _Shard4) -> Iterable[tuple[int, int]]:
    return zip(shard.starts, shard.ends, strict=True)


def _intervals6(shard: _Shard6) -> Iterable[tuple[int, int]]:
    halves = zip(shard.starts, shard.starts_low, shard.ends, shard.ends_low, strict=True)
    return (((a << 64) | b, (c << 64) | d) for a, b, c, d in halves)


EMPTY = AddressTable()
