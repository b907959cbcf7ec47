"""The spans of a connection, before they are made."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.record import Record, TestResult
from postwarden_sidecar.telemetry.spans import ROOT, outline
from strategies import records
from telemetry.samples import passed, record

offsets = st.one_of(st.just(-1.0), st.floats(0, 1000))


@given(records(max_items=3), offsets, offsets, offsets, offsets)
def test_children_lie_within_the_connection_whatever_the_times(
    made: Record, dialog: float, handoff: float, begin: float, end: float
) -> None:
    waited = TestResult("pregreet", "pass", "", begin, end)
    made = dataclasses.replace(made, dialog_start=dialog, handoff_start=handoff, tests=[waited, *made.tests])
    root, *children = outline(made)
    assert root.name == ROOT
    assert {"pregreet"} <= {child.name for child in children} <= {"pregreet", "smtp.dialog", "handoff"}
    for span in children:
        assert root.start <= span.start <= span.end <= root.end


def test_a_dialogue_ends_where_the_handoff_begins() -> None:
    _root, dialog, handoff = outline(passed(tests=[], dialog_start=4.0))
    assert (dialog.name, handoff.name) == ("smtp.dialog", "handoff")
    assert dialog.end == handoff.start


def test_a_client_that_was_turned_away_has_no_handoff() -> None:
    assert [span.name for span in outline(record())] == [ROOT, "smtp.dialog"]
    assert [span.name for span in outline(record(dialog_start=-1.0))] == [ROOT]
