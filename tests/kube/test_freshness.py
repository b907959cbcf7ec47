"""When what is absent may be relied on, and when a watch counts as silent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_operator.kube.freshness import GRACE, LIMIT, SETTLE, Freshness, WatchLag


def test_nothing_is_fresh_before_every_kind_was_heard() -> None:
    freshness = Freshness(["pods", "policies"])
    assert not freshness.fresh(0.0)
    freshness.heard("pods", 1.0)
    assert not freshness.fresh(1.0)
    freshness.heard("policies", 2.0)
    assert freshness.fresh(2.0)


def test_one_kind_that_was_not_heard_within_the_limit_is_enough_for_a_doubt() -> None:
    freshness = Freshness(["pods", "policies"])
    freshness.heard("pods", 0.0)
    freshness.heard("policies", 30.0)
    assert freshness.doubt(LIMIT) is None
    assert freshness.doubt(LIMIT + 0.1) == (
        "the cluster could not be read for more than 60 s, nothing is taken away meanwhile"
    )
    freshness.heard("pods", LIMIT + 1)
    assert freshness.fresh(LIMIT + 1)


@pytest.fixture
def lag() -> WatchLag[str]:
    """Of a watch that has settled at 0."""
    lag = WatchLag[str]()
    lag.begun(-SETTLE)
    return lag


def test_watch_that_tells_first_or_within_the_grace_owes_nothing(lag: WatchLag[str]) -> None:
    lag.told("pods", 7)
    lag.read("pods", 7, 0.0)
    assert not lag.stalled(1000.0)
    lag.read("pods", 9, 1000.0)
    assert not lag.stalled(1000.0 + GRACE)
    lag.told("pods", 9)
    assert not lag.stalled(2000.0)


def test_watch_that_owes_longer_than_the_grace_has_stalled_whatever_other_kinds_tell(
    lag: WatchLag[str],
) -> None:
    lag.read("policies", 7, 0.0)
    lag.told("pods", 8)
    lag.read("policies", 9, GRACE)  # the grace is that of the first
    assert lag.stalled(GRACE + 0.1)


def test_given_up_watch_owes_nothing_and_counts_the_attempts_until_it_tells_something(
    lag: WatchLag[str],
) -> None:
    for attempt in (1, 2):
        lag.read("pods", attempt, 0.0)
        assert lag.stalled(GRACE + 1)
        lag.gave_up()
        assert not lag.stalled(GRACE + 1)
        assert lag.attempts == attempt
    lag.told("pods", 3)
    assert lag.attempts == 0


def test_what_happened_before_the_watch_had_listed_is_not_owed() -> None:
    """A list does not tell of what was deleted before it."""
    lag = WatchLag[str]()
    lag.begun(100.0)
    lag.read("pods", 7, 100.0 + SETTLE - 0.1)
    assert not lag.stalled(1000.0)
    lag.read("pods", 8, 100.0 + SETTLE)
    assert lag.stalled(1000.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=30))
def test_watch_that_tells_all_that_is_read_never_stalls(steps: list[tuple[bool, int]]) -> None:
    lag = WatchLag[str]()
    lag.begun(-SETTLE)
    now = 0.0
    for told_first, version in steps:
        now += 1.0
        for told in (True, False) if told_first else (False, True):
            if told:
                lag.told("pods", version)
            else:
                lag.read("pods", version, now)
        assert not lag.stalled(now + 1000.0)
