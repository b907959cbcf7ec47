"""Tables cut into shards say what the whole table says, and a changed line changes the shard that it is in."""

import hashlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_operator.compiler import BlobContent, table
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.rows import ADDRESS_BITS, Columns, Row
from postwarden_operator.compiler.table import MOST_ROWS, ROW_SIZE, Shard, pieces, shard
from postwarden_sidecar.rules.intervals import AddressTable

REJECT = 2


Made = tuple[Shard, BlobContent]


def shards_of(rows: Columns) -> list[Made]:
    return [shard(rows, piece) for piece in pieces(rows)]


def read(shards: list[Made], version: int) -> AddressTable:
    """As a sidecar reads them."""
    blobs, before = [blob.data for _, blob in shards], [made.lines_before for made, _ in shards]
    if version == 4:
        return AddressTable(blobs, lines_before4=before)
    return AddressTable((), blobs, lines_before6=before)


def packed(address: int, version: int) -> bytes:
    return address.to_bytes(ADDRESS_BITS[version] // 8, "big")


def scattered(version: int, count: int, seed: int = 1) -> list[Row]:
    """Single addresses in order, a line each."""
    random = Random(seed)
    addresses = sorted({random.getrandbits(ADDRESS_BITS[version]) for _ in range(count)})
    return [(address, address, REJECT, line) for line, address in enumerate(addresses, 1)]


def hashes(rows: list[Row], version: int) -> set[str]:
    return {made.hash for made, _ in shards_of(Columns(version, rows))}


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, Columns]:
    """IP version, a shard's most rows, and a flat table with rows of every width, some of them beside each other."""
    version = draw(st.sampled_from([4, 6]))
    highest = (1 << ADDRESS_BITS[version]) - 1
    place = st.one_of(st.integers(0, 40), st.integers(0, highest), st.integers(highest - 40, highest))
    drawn = draw(st.lists(st.tuples(place, place, st.integers(1, 3), st.integers(0, 2**31)), max_size=40))
    rows = [(min(a, b), max(a, b), action, line) for a, b, action, line in drawn]
    return version, draw(st.integers(1, 6)), flatten(Columns(version, rows))


@given(tables())
@settings(max_examples=200)
def test_shards_say_of_every_address_what_the_table_says(drawn: tuple[int, int, Columns]) -> None:
    version, most, rows = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.MOST_ROWS, version, len(rows) or 1)
        whole = read(shards_of(rows), version)
        patch.setitem(table.MOST_ROWS, version, most)
        shards = shards_of(rows)
    cut = read(shards, version)
    cut.verify()
    assert all(len(blob.data) <= most * ROW_SIZE[version] for _, blob in shards)
    highest = (1 << ADDRESS_BITS[version]) - 1
    edges = {edge + step for first, last, *_ in rows for edge in (first, last) for step in (-1, 0, 1)}
    for address in edges | {0, highest, highest >> 1}:
        if 0 <= address <= highest:
            assert cut.lookup(packed(address, version)) == whole.lookup(packed(address, version))


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_changed_line_changes_its_shard_or_the_two_that_it_becomes(
    version: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.MOST_ROWS, version, 8)
        rows = scattered(version, 500, data.draw(st.integers(0, 1000)))
        at = data.draw(st.integers(0, len(rows) - 1))
        address = data.draw(
            st.integers(rows[at][0] + 1, rows[at + 1][0] - 1 if at + 1 < len(rows) else rows[at][0] + 1)
        )
        before = hashes(rows, version)
        said_otherwise = [*rows[:at], (*rows[at][:2], 1, rows[at][3]), *rows[at + 1 :]]
        assert len(hashes(said_otherwise, version) - before) == 1
        # A line more: all that come after are counted one further.
        later = [(first, last, action, line + 1) for first, last, action, line in rows[at + 1 :]]
        added = [*rows[: at + 1], (address, address, REJECT, at + 2), *later]
        assert len(hashes(added, version) - before) <= 2
        # A line less, which may make one shard of two.
        assert len(before - hashes(added, version)) <= 2


def test_a_line_at_a_border_of_two_shards_changes_both() -> None:
    rows = scattered(4, 2 * MOST_ROWS[4])
    half = 1 << 31
    below = [row for row in rows if row[1] < half - 16]
    above = [row for row in rows if row[0] >= half + 16]
    table_of = [*below, (half - 8, half + 8, REJECT, 77), *above]
    assert len(hashes(table_of, 4) - hashes([*below, *above], 4)) == 2


def test_a_million_networks_make_shards_of_one_chunk_at_most_and_few_enough_for_a_snapshot() -> None:
    rows = Columns(4)
    rows.firsts.extend(range(0, 1 << 32, 1 << 14))
    rows.lasts.extend(range(0, 1 << 32, 1 << 14))
    rows.lines.extend(range(1, len(rows.firsts) + 1))
    rows.actions.extend(bytes([REJECT]) * len(rows.firsts))
    shards = shards_of(rows)
    assert len(rows) == 262_144
    assert len(shards) == 64
    assert all(len(blob.data) <= table.LARGEST_SHARD for _, blob in shards)
    assert [made.lines_before for made, _ in shards] == list(range(0, 262_144, 4096))


def test_all_rows_in_one_place_are_cut_finely_there_only() -> None:
    start = 10 << 24
    rows = [
        (start + 2 * number, start + 2 * number, REJECT, number + 1) for number in range(3 * MOST_ROWS[4])
    ]
    assert 3 <= len(shards_of(Columns(4, rows))) <= 6
    # One row over all the rest is cut at every border on the way.
    wide = [*rows, (start + (1 << 20), (1 << 32) - 1, REJECT, 99_999)]
    assert len(shards_of(Columns(4, wide))) <= 6 + 32


@pytest.mark.parametrize("version", [4, 6])
def test_a_small_table_is_one_shard_with_the_lines_of_its_source(version: int) -> None:
    rows = [(5, 6, 1, 7), (9, 9, REJECT, 12)]
    ((made, blob),) = shards_of(Columns(version, rows))
    assert made.lines_before == 0
    assert made.hash == blob.hash == hashlib.sha256(blob.data).hexdigest()
    assert read([(made, blob)], version).lookup(packed(9, version)) == (REJECT, 12)


def test_lines_that_are_none_stay_none_in_every_shard() -> None:
    rows = [(address, address, REJECT, 0) for address in range(0, 4 * MOST_ROWS[4], 2)]
    shards = shards_of(Columns(4, rows))
    assert len(shards) > 1
    assert read(shards, 4).lookup(packed(2, 4)) == (REJECT, 0)


def test_no_rows_are_no_shard() -> None:
    assert shards_of(Columns(4)) == []
