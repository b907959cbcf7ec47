"""Address tables: every address finds the row that a scan of all rows finds."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.rules.intervals import (
    EMPTY,
    ROW4,
    ROW6,
    AddressTable,
    BadTable,
    Interval,
    encode4,
    encode6,
)
from strategies import intervals, packed_addresses


def scan(rows: list[Interval], address: int) -> tuple[int, int] | None:
    return next(((action, line) for first, last, action, line in rows if first <= address <= last), None)


@pytest.mark.parametrize("bits", [32, 128])
@given(data=st.data())
def test_a_lookup_finds_what_a_scan_finds(bits: int, data: st.DataObject) -> None:
    rows = data.draw(intervals(bits))
    cut = data.draw(st.integers(0, len(rows)))
    shards = (
        [encode4(rows[:cut]), encode4(rows[cut:])]
        if bits == 32
        else [encode6(rows[:cut]), encode6(rows[cut:])]
    )
    table = AddressTable(v4=shards) if bits == 32 else AddressTable(v6=shards)
    table.verify()
    edges = {edge + by for first, last, _, _ in rows for edge in (first, last) for by in (-1, 0, 1)}
    edges |= {0, 2**bits - 1, data.draw(st.integers(0, 2**bits - 1))}
    for address in edges:
        if 0 <= address < 2**bits:
            assert table.lookup(address.to_bytes(bits // 8, "big")) == scan(rows, address)


@given(packed_addresses)
def test_an_empty_table_knows_no_address(packed: bytes) -> None:
    assert EMPTY.lookup(packed) is None
    assert len(EMPTY) == 0


def test_the_families_do_not_mix() -> None:
    table = AddressTable.from_networks([("0.0.0.0/0", 2, 1)])
    assert table.lookup(b"\0" * 4) == (2, 1)
    assert table.lookup(b"\0" * 16) is None


def test_the_columns_are_those_of_the_wire() -> None:
    blob = encode4([(0x0A000000, 0x0A0000FF, 2, 7), (0x0B000000, 0x0B000000, 1, 8)])
    assert blob == bytes.fromhex("0000000a 0000000b  ff00000a 0000000b  07000000 08000000  02 01")
    assert len(blob) == 2 * ROW4
    blob = encode6([((1 << 64) | 2, (3 << 64) | 4, 3, 9)])
    assert blob == bytes.fromhex(
        "0100000000000000 0200000000000000 0300000000000000 0400000000000000 09000000 03"
    )
    assert len(blob) == ROW6


def test_nothing_is_copied_out_of_the_buffer() -> None:
    buffer = bytearray(encode4([(0, 9, 2, 1)]))
    table = AddressTable([memoryview(buffer)])
    assert table.lookup(bytes(4)) == (2, 1)
    buffer[-1] = 1
    assert table.lookup(bytes(4)) == (1, 1)


@pytest.mark.parametrize("size", [1, ROW4 - 1, ROW4 + 1, 3 * ROW4 - 1])
def test_bytes_that_are_no_whole_rows_are_refused(size: int) -> None:
    with pytest.raises(BadTable, match=f"{size} bytes are no whole number of rows of iv4/1"):
        AddressTable(v4=[bytes(size)])
    with pytest.raises(BadTable, match="iv6/1"):
        AddressTable(v6=[bytes(size)])


def test_a_shard_counts_lines_from_its_own_first_one_and_line_0_is_none() -> None:
    shards = [encode4([(1, 2, 1, 1)]), b"", encode4([(5, 6, 1, 1), (7, 7, 2, 0)])]
    table = AddressTable(shards, lines_before4=[0, 9, 41])
    assert [table.lookup(bytes([0, 0, 0, last])) for last in (1, 5, 7)] == [(1, 1), (1, 42), (2, 0)]
    table = AddressTable((), [encode6([(1, 2, 1, 1)])], lines_before6=[10])
    assert table.lookup(bytes(15) + b"\1") == (1, 11)
    assert table.lines_before == ((), (10,))
    with pytest.raises(BadTable, match="how many lines come before"):
        AddressTable(shards, lines_before4=[0, 1])


def test_shards_out_of_order_are_refused() -> None:
    low, high = encode4([(1, 2, 1, 1)]), encode4([(5, 6, 1, 1)])
    AddressTable([low, b"", high])
    with pytest.raises(BadTable, match="not in ascending order"):
        AddressTable([high, low])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(5, 4, 1, 1)], "row 0"),
        ([(1, 5, 1, 1), (5, 9, 1, 2)], "row 1"),
        ([(9, 9, 1, 1), (1, 1, 1, 2)], "row 1"),
        ([(1, 1, 0, 1)], "an action"),
        ([(1, 1, 4, 1)], "an action"),
    ],
)
def test_verify_refuses_rows_that_bisection_can_not_search(rows: list[Interval], complaint: str) -> None:
    for table in (AddressTable(v4=[encode4(rows)]), AddressTable(v6=[encode6(rows)])):
        with pytest.raises(BadTable, match=complaint):
            table.verify()


def test_verify_looks_across_shards() -> None:
    table = AddressTable([encode4([(1, 9, 1, 1)]), encode4([(5, 10, 1, 2)])])
    with pytest.raises(BadTable, match="overlaps"):
        table.verify()


def test_networks_become_rows() -> None:
    table = AddressTable.from_networks(
        [("192.168.0.0/16", 2, 2), (ipaddress.IPv4Network("10.1.2.3/32"), 1, 1), ("2001:db8::/32", 3, 3)]
    )
    assert len(table) == 3
    assert table.lookup(ipaddress.ip_address("192.168.255.255").packed) == (2, 2)
    assert table.lookup(ipaddress.ip_address("192.169.0.0").packed) is None
    assert table.lookup(ipaddress.ip_address("10.1.2.3").packed) == (1, 1)
    assert table.lookup(ipaddress.ip_address("2001:db8:ffff::1").packed) == (3, 3)
    with pytest.raises(BadTable):
        AddressTable.from_networks([("10.0.0.0/8", 1, 1), ("10.1.0.0/16", 2, 2)])


def test_tables_are_equal_if_their_bytes_are() -> None:
    one = AddressTable.from_networks([("10.0.0.0/8", 1, 1)])
    assert one == AddressTable.from_networks([("10.0.0.0/8", 1, 1)])
    assert hash(one) == hash(AddressTable.from_networks([("10.0.0.0/8", 1, 1)]))
    assert one != AddressTable.from_networks([("10.0.0.0/8", 1, 2)])
    assert one != EMPTY
