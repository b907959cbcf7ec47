"""Address tables: disjoint, sorted intervals of addresses in columns over a buffer, searched by bisection.

A table holds an IPv4 and an IPv6 part, each as the wire's blobs `iv4/1` and `iv6/1` (screening.proto) have it; several
blobs of a family are consecutive shards. Nothing is copied out of the buffers and no object is made per network, so a
million networks in a mapped file cost the workers that share it no memory, and a start no time. Not a radix tree:
bisection over a memoryview takes a microsecond at a million rows, and the table is searched as it lies on disk.
"""

from __future__ import annotations

import ipaddress
import mmap
import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

Buffer = bytes | bytearray | memoryview | mmap.mmap
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interval = tuple[int, int, int, int]  # first address, last address, action, line

ROW4 = 13  # bytes of a row of `iv4/1`: start, end and line of 4 bytes, action of 1
ROW6 = 37  # bytes of a row of `iv6/1`: start and end in two halves of 8 bytes, line of 4, action of 1
_LOW = 0xFFFF_FFFF_FFFF_FFFF  # the low half of an IPv6 address
_ACTIONS = b"\1\2\3"  # rules.settings.AccessAction's numbers


class BadTable(ValueError):
    """The bytes are no address table; the message says why in one sentence."""


class _Shard4:
    """The columns of one blob of `iv4/1`. lines_before: see AddressTable."""

    __slots__ = ("actions", "ends", "lines", "lines_before", "raw", "starts")

    def __init__(self, blob: Buffer, lines_before: int = 0) -> None:
        self.lines_before = lines_before
        self.raw = raw = memoryview(blob).toreadonly().cast("B")
        rows = _rows(raw, ROW4, "iv4/1")
        self.starts = raw[: 4 * rows].cast("I")
        self.ends = raw[4 * rows : 8 * rows].cast("I")
        self.lines = raw[8 * rows : 12 * rows].cast("I")
        self.actions = raw[12 * rows :]

    @property
    def first(self) -> int:
        return self.starts[0]

    @property
    def last(self) -> int:
        return self.ends[-1]

    def intervals(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def in_order(self) -> bool:
        """Whether rows are sorted and disjoint: in C, 60 ns a row."""
        return all(map(operator.le, self.starts, self.ends)) and all(
            map(operator.lt, self.ends, islice(self.starts, 1, None))
        )


class _Shard6:
    """The columns of one blob of `iv6/1`. lines_before: see AddressTable."""

    __slots__ = (
        "actions",
        "ends_high",
        "ends_low",
        "lines",
        "lines_before",
        "raw",
        "starts_high",
        "starts_low",
    )

    def __init__(self, blob: Buffer, lines_before: int = 0) -> None:
        self.lines_before = lines_before
        self.raw = raw = memoryview(blob).toreadonly().cast("B")
        rows = _rows(raw, ROW6, "iv6/1")
        self.starts_high = raw[: 8 * rows].cast("Q")
        self.starts_low = raw[8 * rows : 16 * rows].cast("Q")
        self.ends_high = raw[16 * rows : 24 * rows].cast("Q")
        self.ends_low = raw[24 * rows : 32 * rows].cast("Q")
        self.lines = raw[32 * rows : 36 * rows].cast("I")
        self.actions = raw[36 * rows :]

    @property
    def first(self) -> int:
        return (self.starts_high[0] << 64) | self.starts_low[0]

    @property
    def last(self) -> int:
        return (self.ends_high[-1] << 64) | self.ends_low[-1]

    def in_order(self) -> bool:
        """Whether rows are sorted and disjoint."""
        previous = -1
        for start, end in self.intervals():
            if not previous < start <= end:
                return False
            previous = end
        return True

    def intervals(self) -> Iterator[tuple[int, int]]:
        for start, start_low, end, end_low in zip(
            self.starts_high, self.starts_low, self.ends_high, self.ends_low, strict=True
        ):
            yield (start << 64) | start_low, (end << 64) | end_low


class AddressTable:
    """address -> (action, line), over shards of `iv4/1` and `iv6/1`. Tables are equal if their bytes are.

    The machine must be little-endian, as the columns are; so is every one that we build images for.
    """

    __slots__ = ("_firsts4", "_firsts6", "_shards4", "_shards6")

    def __init__(
        self,
        v4: Sequence[Buffer] = (),
        v6: Sequence[Buffer] = (),
        *,
        lines_before4: Sequence[int] = (),
        lines_before6: Sequence[int] = (),
    ) -> None:
        """v4, v6: shards in the wire's format, in ascending order of their addresses; empty ones are left out.
        lines_before: for each shard, what is to be added to the lines of its rows, but to line 0; empty: nothing.

        Raises BadTable for a size that is no whole number of rows, and for shards out of order. The rows are not
        looked at: that is `verify`'s.
        """
        before4, before6 = lines_before4 or [0] * len(v4), lines_before6 or [0] * len(v6)
        if (len(before4), len(before6)) != (len(v4), len(v6)):
            raise BadTable("an address table does not say of each of its blobs how many lines come before")
        self._shards4 = tuple(_Shard4(blob, n) for blob, n in zip(v4, before4, strict=True) if len(blob))
        self._shards6 = tuple(_Shard6(blob, n) for blob, n in zip(v6, before6, strict=True) if len(blob))
        self._firsts4 = [shard.first for shard in self._shards4]
        self._firsts6 = [shard.first for shard in self._shards6]
        for firsts in (self._firsts4, self._firsts6):
            if firsts != sorted(firsts):
                raise BadTable("the blobs of an address table are not in ascending order")

    @classmethod
    def from_networks(cls, rows: Iterable[tuple[Network | str, int, int]]) -> AddressTable:
        """A table of (network, action, line). Raises BadTable if networks overlap. For tests and small sets: the
        compiler makes the large ones."""
        v4: list[Interval] = []
        v6: list[Interval] = []
        for text, action, line in rows:
            network = ipaddress.ip_network(text)
            family = v4 if network.version == 4 else v6
            family.append((int(network[0]), int(network[-1]), action, line))
        table = cls([encode4(sorted(v4))], [encode6(sorted(v6))])
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

    @property
    def lines_before(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the shards in v4 and v6."""
        return (
            tuple(shard.lines_before for shard in self._shards4),
            tuple(shard.lines_before for shard in self._shards6),
        )

    def __len__(self) -> int:
        """Rows of both families."""
        return sum(len(shard.actions) for shard in self._shards4) + sum(
            len(shard.actions) for shard in self._shards6
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressTable):
            return NotImplemented
        return (self.v4, self.v6, self.lines_before) == (other.v4, other.v6, other.lines_before)

    def __hash__(self) -> int:
        return hash((tuple(self._firsts4), tuple(self._firsts6), len(self)))

    def __repr__(self) -> str:
        return f"AddressTable({len(self)} rows)"

    def rows(self) -> Iterator[tuple[Address, Address, int, int]]:
        """(first address, last, action, line), IPv4 first, for people to read: it makes objects."""
        families: tuple[tuple[Sequence[_Shard4 | _Shard6], type[Address]], ...] = (
            (self._shards4, ipaddress.IPv4Address),
            (self._shards6, ipaddress.IPv6Address),
        )
        for shards, address in families:
            for shard in shards:
                for (first, last), action, line in zip(
                    shard.intervals(), shard.actions, shard.lines, strict=True
                ):
                    yield address(first), address(last), action, line and line + shard.lines_before

    def lookup(self, packed: bytes) -> tuple[int, int] | None:
        """(action, line) of the row that holds the address (4 or 16 bytes in network order), or None."""
        if len(packed) == 4:
            return self._lookup4(int.from_bytes(packed, "big")) if self._firsts4 else None
        return self._lookup6(int.from_bytes(packed, "big")) if self._firsts6 else None

    def _lookup4(self, address: int) -> tuple[int, int] | None:
        which = bisect_right(self._firsts4, address) - 1
        if which < 0:
            return None
        shard = self._shards4[which]
        row = bisect_right(shard.starts, address) - 1
        if shard.ends[row] < address:
            return None
        line = shard.lines[row]
        return shard.actions[row], line and line + shard.lines_before

    def _lookup6(self, address: int) -> tuple[int, int] | None:
        which = bisect_right(self._firsts6, address) - 1
        if which < 0:
            return None
        shard = self._shards6[which]
        high, low = address >> 64, address & _LOW
        # Rows that share their high half lie together; among them the low half decides.
        after = bisect_right(shard.starts_high, high)
        first = bisect_right(shard.starts_high, high - 1) if high else 0
        row = bisect_right(shard.starts_low, low, first, after) - 1
        if (shard.ends_high[row], shard.ends_low[row]) < (high, low):
            return None
        line = shard.lines[row]
        return shard.actions[row], line and line + shard.lines_before

    def verify(self) -> None:
        """Read every row. Raises BadTable for rows that overlap, are out of order or end before they start, and for an
        unknown action. For tables that came over the wire; what we wrote ourselves has a checksum."""
        for shard4 in self._shards4:
            _verify(shard4)
        for shard6 in self._shards6:
            _verify(shard6)
        self.verify_order()

    def verify_order(self) -> None:
        """Raises BadTable for shards that overlap. Each by itself is good: see `verify_blob`."""
        families: tuple[Sequence[_Shard4 | _Shard6], ...] = (self._shards4, self._shards6)
        for shards in families:
            for shard, following in pairwise(shards):
                if shard.last >= following.first:
                    raise BadTable("row 0 of an address table's shard overlaps another or is out of order")


def verify_blob(content: Buffer, version: int) -> None:
    """Read every row of a blob of `iv4/1` (version 4) or `iv6/1` (6): some 0.1 ms a thousand. Raises BadTable."""
    if len(content):
        _verify(_Shard4(content) if version == 4 else _Shard6(content))


def _verify(shard: _Shard4 | _Shard6) -> None:
    if not shard.in_order():
        previous = -1
        for row, (start, end) in enumerate(shard.intervals()):
            if not previous < start <= end:
                raise BadTable(f"row {row} of an address table overlaps another or is out of order")
            previous = end
    if bytes(shard.actions).translate(None, _ACTIONS):
        raise BadTable("an address table has an action that is none of Permit, Reject and Dunno")


def _rows(raw: memoryview, size: int, name: str) -> int:
    rows, rest = divmod(len(raw), size)
    if rest:
        raise BadTable(f"{len(raw)} bytes are no whole number of rows of {name} ({size} bytes each)")
    return rows


def encode4(rows: Sequence[Interval]) -> bytes:
    """`iv4/1` of sorted intervals."""
    numbers = (*(row[0] for row in rows), *(row[1] for row in rows), *(row[3] for row in rows))
    return b"".join(number.to_bytes(4, "little") for number in numbers) + bytes(row[2] for row in rows)


def encode6(rows: Sequence[Interval]) -> bytes:
    """`iv6/1` of sorted intervals."""
    halves = (
        *(row[0] >> 64 for row in rows),
        *(row[0] & _LOW for row in rows),
        *(row[1] >> 64 for row in rows),
        *(row[1] & _LOW for row in rows),
    )
    return b"".join(
        [
            *(half.to_bytes(8, "little") for half in halves),
            *(row[3].to_bytes(4, "little") for row in rows),
            bytes(row[2] for row in rows),
        ]
    )


EMPTY = AddressTable()
