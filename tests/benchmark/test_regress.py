"""When `make bench-regress` fails: a ratio over 15 % worse than the committed baseline's."""

from __future__ import annotations

import pytest

from bench.regress.__main__ import BASELINE, MAIN_CASES
from bench.regress.comparison import (
    BaselineUnusable,
    Compared,
    as_baseline,
    compared,
    parse_baseline,
    ratio,
)


@pytest.mark.parametrize(
    ("now", "word"),
    [(2.0, "same"), (2.3, "same"), (2.31, "worse"), (1.74, "same"), (1.73, "better"), (9.0, "worse")],
)
def test_only_more_than_15_percent_counts(now: float, word: str) -> None:
    assert Compared("access-drop", now, 2.0).word == word


def test_a_case_without_a_baseline_is_new_and_does_not_fail() -> None:
    (found,) = compared({"early-talker": 3.0}, {"access-drop": 1.0})
    assert (found.word, found.change) == ("new", None)


def test_cases_that_were_not_measured_are_not_judged() -> None:
    assert [each.case for each in compared({"access-drop": 1.0}, {"access-drop": 1.0, "gone": 1.0})] == [
        "access-drop"
    ]


def test_one_round_of_a_busy_machine_does_not_decide() -> None:
    assert ratio([(20.0, 10.0), (90.0, 10.0), (21.0, 10.0)]) == pytest.approx(2.1)


def test_a_machine_twice_as_slow_has_the_same_ratio() -> None:
    assert ratio([(20.0, 10.0)]) == ratio([(40.0, 20.0)])


def test_a_baseline_is_read_as_it_was_written() -> None:
    assert parse_baseline(as_baseline({"b": 2.345, "a": 1.0})) == {"a": 1.0, "b": 2.35}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"ratios": 1}',
        '{"ratios": {"a": "x"}}',
        '{"ratios": {"a": 0}}',
        '{"ratios": {"a": -1}}',
    ],
)
def test_a_bad_baseline_is_refused(text: str) -> None:
    with pytest.raises(BaselineUnusable, match="baseline"):
        parse_baseline(text)


def test_the_committed_baseline_has_all_main_cases() -> None:
    assert parse_baseline(BASELINE.read_text()).keys() == {case.name for case in MAIN_CASES}
