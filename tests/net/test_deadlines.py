"""Deadlines: whatever is set, put off and taken back, each handler is due once its time has come, and in order."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.net.deadlines import SLICES, Deadlines


class Waiting:
    """A handler that is never called."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None

    def handle_events(self, fd: int, events: int) -> None:
        raise AssertionError

    def handle_deadline(self) -> None:
        raise AssertionError

    def fail(self) -> None:
        raise AssertionError


# Seconds; some are equal, some of one slice, and some at a slice's very beginning.
TIMES = st.one_of(st.sampled_from([0.0, 0.01, 1 / SLICES, 1.0, 6.0, 300.0]), st.floats(0, 400))
STEPS = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), TIMES), TIMES), max_size=60)


@given(start=st.floats(0, 1e7), steps=STEPS)
def test_whoever_waits_is_due_at_its_time_and_nobody_else(
    start: float, steps: list[tuple[int, float | None, float]]
) -> None:
    """Beside a plain dict: each step sets one deadline, then time goes on."""
    now = start
    deadlines, handlers = Deadlines(now), [Waiting() for _ in range(10)]
    expected: dict[int, float] = {}
    for number, wait, pause in steps:
        expected.pop(number, None)
        if wait is not None:
            expected[number] = now + wait
        deadlines.set(handlers[number], expected.get(number))
        following = deadlines.next()
        assert not expected or (following is not None and following <= min(expected.values()))
        now += pause
        came = []
        while (handler := deadlines.take(now)) is not None:
            assert handler.deadline is None
            came.append(handlers.index(handler))  # type: ignore[arg-type]  # all are Waiting
        due = [other for other, when in expected.items() if when <= now]
        assert sorted(came) == sorted(due)
        assert [expected[other] for other in came] == sorted(expected[other] for other in came)
        for other in due:
            del expected[other]


def test_a_loop_sleeps_no_longer_than_to_the_first_deadline() -> None:
    deadlines, handler = Deadlines(100.0), Waiting()
    assert deadlines.next() is None
    deadlines.set(handler, 107.33)
    following = deadlines.next()
    assert following is not None
    assert 107.33 - 1 / SLICES <= following <= 107.33
    assert deadlines.take(following) is None
    assert deadlines.next() == 107.33
    assert deadlines.take(107.33) is handler
    assert deadlines.next() is None


def test_deadlines_taken_back_do_not_stay() -> None:
    """Neither far ones nor near ones, and those that hold are kept."""
    deadlines, kept = Deadlines(100.0), [Waiting() for _ in range(50)]
    for number, handler in enumerate(kept):
        deadlines.set(handler, 100.01 + number)
    for number in range(10_000):
        gone = Waiting()
        deadlines.set(gone, 100.02 + number % 2 * 3600)
        deadlines.set(gone, None)
        assert gone.deadline is None
    assert len(deadlines) < 300
    due = []
    while (found := deadlines.take(200.0)) is not None:
        due.append(found)
    assert due == kept


@pytest.mark.parametrize("others", [0, 5])
def test_who_is_gone_is_let_go_at_once_where_few_wait(others: int) -> None:
    """A session knows the rules that it was decided by, and they are large."""
    deadlines, kept = Deadlines(100.0), [Waiting() for _ in range(others)]
    for handler in kept:
        deadlines.set(handler, 400.0)
    gone = Waiting()
    deadlines.set(gone, 400.0)
    deadlines.set(gone, None)
    dead = weakref.ref(gone)
    del gone
    assert dead() is None
    assert len(deadlines) == others
    assert [deadlines.take(401.0) for _ in range(others + 1)] == [*kept, None]
