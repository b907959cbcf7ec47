"""Reply filters: postscreen's notation, and the schema's pattern says the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_operator.policy.reply_filter import (
    REPLY_FILTER_PATTERN,
    Octets,
    parse_reply_filter,
    reply_filter_problem,
)


def octets(*values: set[int]) -> Octets:
    first, second, third, fourth = map(frozenset, values)
    return first, second, third, fourth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.2", octets({127}, {0}, {0}, {2})),
        ("127.0.0.[2..11]", octets({127}, {0}, {0}, set(range(2, 12)))),
        ("127.0.[0;1].[2;4..6]", octets({127}, {0}, {0, 1}, {2, 4, 5, 6})),
        ("[126..128].0.0.[0..255]", octets({126, 127, 128}, {0}, {0}, set(range(256)))),
        ("127.[3..3;3].[9].0", octets({127}, {3}, {9}, {0})),
    ],
)
def test_each_octet_is_the_set_of_its_values(text: str, expected: Octets) -> None:
    assert parse_reply_filter(text) == expected


@given(st.text("0123456789.;[]", max_size=20) | st.from_regex(REPLY_FILTER_PATTERN, fullmatch=True))
def test_schema_refuses_what_is_no_filter_and_takes_what_is_one(text: str) -> None:
    fits = re.fullmatch(REPLY_FILTER_PATTERN, text) is not None
    problem = reply_filter_problem(text)
    # What a pattern can't see: an empty range, and a filter that nothing fits.
    unseen = problem is not None and ("which is empty" in problem or "must be 127" in problem)
    assert fits == (problem is None or unseen)
