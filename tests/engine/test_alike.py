"""Records that are the same but for who and when: as many, and each its own."""

from __future__ import annotations

from copy import deepcopy

from engine.scene import WALL
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine import alike
from postwarden_sidecar.engine.record import (
    Alike,
    Event,
    EventKind,
    Record,
    Recorded,
    TestResult,
    Verdict,
    Visit,
)
from record_strategies import groups, records


def dropped() -> Record:
    return Record(
        *(0.0, 0.0, Verdict.DROPPED, " is rejected by ", "", 0, "", 0, "", 0),
        False,
        tests=[TestResult("access", "fail", "Drop")],
        events=[Event(EventKind.CONNECT, 0.0)],
    )


def test_a_visit_has_a_whole_record() -> None:
    record = alike.whole(
        dropped(), Visit(WALL, "192.0.2.7", 4711, "198.51.100.25", 25, "spec.access.rules[0]")
    )
    assert record == Record(
        WALL,
        0.0,
        Verdict.DROPPED,
        "192.0.2.7 is rejected by spec.access.rules[0]",
        *("192.0.2.7", 4711, "198.51.100.25", 25, "192.0.2.7", 4711),
        False,
        tests=[TestResult("access", "fail", "Drop", 0.0, 0.0, "spec.access.rules[0]")],
        events=[Event(EventKind.CONNECT, 0.0)],
    )


@given(groups())
def test_a_template_stays_as_it_is(group: Alike) -> None:
    before = deepcopy(group)
    alike.all_whole([group])
    assert group == before


@given(st.lists(records() | groups(), max_size=4), st.integers(0, 12))
def test_the_first_of_many_are_the_first_of_their_records(recorded: list[Recorded], most: int) -> None:
    records = alike.all_whole(recorded)
    assert alike.count(recorded) == len(records)
    assert alike.all_whole(alike.first(recorded, most)) == records[:most]
