"""Flat tables say of each address what the first row that holds it says."""

import time
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.rows import ADDRESS_BITS, Columns, Row

HIGHEST = {version: (1 << bits) - 1 for version, bits in ADDRESS_BITS.items()}
PERMIT, REJECT, DUNNO = 1, 2, 3


@st.composite
def lists_of_rows(draw: st.DrawFn) -> tuple[int, list[Row]]:
    """Rows that overlap in every way, at both ends of the addresses too."""
    version = draw(st.sampled_from([4, 6]))
    places = st.one_of(
        st.integers(0, 12),
        st.integers(HIGHEST[version] - 12, HIGHEST[version]),
        st.integers(0, HIGHEST[version]),
    )
    row = st.tuples(places, places, st.integers(1, 3), st.integers(0, 4))
    rows = draw(st.lists(row, max_size=12))
    return version, [(min(a, b), max(a, b), action, line) for a, b, action, line in rows]


def flattened(rows: list[Row], version: int, left_out: int | None = None) -> list[Row]:
    return list(flatten(Columns(version, rows), left_out=left_out))


def first_match(rows: list[Row], address: int) -> tuple[int, int] | None:
    return next(((action, line) for first, last, action, line in rows if first <= address <= last), None)


def only_match(flat: list[Row], address: int) -> tuple[int, int] | None:
    matches = [(action, line) for first, last, action, line in flat if first <= address <= last]
    assert len(matches) <= 1
    return matches[0] if matches else None


@given(lists_of_rows())
def test_every_address_gets_what_the_first_row_that_holds_it_gives(drawn: tuple[int, list[Row]]) -> None:
    version, rows = drawn
    flat = flattened(rows, version)
    edges = {edge + step for first, last, *_ in rows for edge in (first, last) for step in (-1, 0, 1)}
    for address in edges | {0, HIGHEST[version]}:
        if 0 <= address <= HIGHEST[version]:
            assert only_match(flat, address) == first_match(rows, address)


@given(lists_of_rows())
def test_flat_rows_are_sorted_disjoint_and_merged_where_they_say_the_same(
    drawn: tuple[int, list[Row]],
) -> None:
    version, rows = drawn
    flat = flattened(rows, version)
    assert all(first <= last for first, last, *_ in flat)
    for (_, last, *said), (first, _, *says) in pairwise(flat):
        assert last < first
        assert last + 1 < first or said != says


@given(lists_of_rows())
def test_addresses_whose_first_row_is_left_out_are_in_no_row(drawn: tuple[int, list[Row]]) -> None:
    version, rows = drawn
    kept = [row for row in flattened(rows, version) if row[2] != DUNNO]
    assert flattened(rows, version, left_out=DUNNO) == kept


def test_neighbours_of_different_lines_stay_apart_for_their_explanation() -> None:
    rows = [(0, 1, PERMIT, 7), (2, 3, PERMIT, 8), (4, 5, PERMIT, 8), (6, 6, REJECT, 8)]
    assert flattened(rows, 4) == [(0, 1, PERMIT, 7), (2, 5, PERMIT, 8), (6, 6, REJECT, 8)]


def test_many_nested_and_many_equal_rows_take_no_quadratic_time() -> None:
    count = 50_000
    nested = [(index, HIGHEST[4] - index, PERMIT, index) for index in reversed(range(count))]
    equal = [(0, HIGHEST[4], PERMIT, index) for index in range(count)]
    random = Random(1)
    scattered = [
        (start, start + 255, REJECT, index) for index in range(count) for start in [random.getrandbits(31)]
    ]
    began = time.process_time()
    assert len(flattened(nested, 4)) == 2 * count - 1
    assert len(flattened(equal, 4)) == 1
    assert len(flattened(scattered, 4)) > count / 2
    # 0.3 s were measured; quadratic time would be minutes.
    assert time.process_time() - began < 10


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_is_flat_already(version: int) -> None:
    assert flattened([], version) == []
