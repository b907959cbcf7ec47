"""The spans of a connection, before they are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from opentelemetry.trace import SpanKind
from postwarden_sidecar.engine.record import Lookup, Record, TestResult
from postwarden_sidecar.telemetry.spans import ROOT, count, outline
from record_strategies import records
from telemetry.samples import passed, record

offsets = st.one_of(st.just(-1.0), st.floats(0, 1000))


@given(records(max_items=3), offsets, offsets, offsets, offsets)
def test_children_lie_within_the_connection_whatever_the_times(
    made: Record, dialog: float, handoff: float, begin: float, end: float
) -> None:
    waited = TestResult("pregreet", "pass", "", begin, end)
    made = structs.replace(made, dialog_start=dialog, handoff_start=handoff, tests=[waited, *made.tests])
    root = outline(made)
    children = root.children
    assert root.name == ROOT
    known = {"pregreet", "dnsbl", "smtp.dialog", "handoff"}
    assert {"pregreet"} <= {child.name for child in children} <= known
    lookups = [look_up for child in children for look_up in child.children]
    assert len(lookups) == len(made.lookups)
    assert count(made) == 1 + len(children) + len(lookups)
    for span in children + lookups:
        assert root.start <= span.start <= span.end <= root.end


def test_a_dialogue_ends_where_the_handoff_begins() -> None:
    dialog, handoff = outline(passed(tests=[], dialog_start=4.0)).children
    assert (dialog.name, handoff.name) == ("smtp.dialog", "handoff")
    assert dialog.end == handoff.start


def test_a_client_that_was_turned_away_has_no_handoff() -> None:
    assert [span.name for span in outline(record()).children] == ["smtp.dialog"]
    assert outline(record(dialog_start=-1.0)).children == []


def test_look_ups_that_ran_side_by_side_look_so() -> None:
    lookups = [
        Lookup("zen.example", "listed", 0.0, 0.4),
        Lookup("{key}.dq.example", "not_listed", 0.0, 0.2),
        Lookup("slow.example", "timeout", 0.0, 6.0),
    ]
    tested = [TestResult("dnsbl", "fail", "Enforce", 0.0, 6.0, "score 4")]
    (dnsbl,) = outline(record(tests=tested, lookups=lookups, duration=7.0, dialog_start=-1.0)).children
    assert dnsbl.attributes == {
        "postwarden.test": "dnsbl",
        "postwarden.outcome": "fail",
        "postwarden.action": "Enforce",
        "postwarden.dnsbl.score": 4,
    }
    assert [each.attributes["postwarden.dnsbl.zone"] for each in dnsbl.children] == [
        "zen.example",
        "{key}.dq.example",
        "slow.example",
    ]
    assert {each.kind for each in dnsbl.children} == {SpanKind.CLIENT}
    assert {each.start for each in dnsbl.children} == {dnsbl.start}
    lasted = [(each.end - each.start) / 1e9 for each in dnsbl.children]
    assert lasted == pytest.approx([0.4, 0.2, 6.0], abs=1e-5)


def test_the_lists_are_done_with_their_last_answer_though_the_wait_goes_on() -> None:
    tested = [
        TestResult("pregreet", "pass", "", 0.0, 6.0),
        TestResult("dnsbl", "pass", "", 0.0, 6.0, "score 0"),
    ]
    lookups = [Lookup("zen.example", "not_listed", 0.0, 0.4), Lookup("slow.example", "not_listed", 0.1, 1.2)]
    made = record(tests=tested, lookups=lookups, duration=7.0, dialog_start=-1.0)
    lasted = {each.name: (each.end - each.start) / 1e9 for each in outline(made).children}
    assert lasted == pytest.approx({"pregreet": 6.0, "dnsbl": 1.2}, abs=1e-5)


def test_a_client_that_goes_while_lists_are_asked_has_the_answers_that_came() -> None:
    gone = record(tests=[], lookups=[Lookup("zen.example", "listed", -0.1, 0.4)], dialog_start=-1.0)
    (dnsbl,) = outline(gone).children
    assert (dnsbl.name, [each.name for each in dnsbl.children]) == ("dnsbl", ["dnsbl.lookup"])
