"""The reference page says what the code does."""

from __future__ import annotations

from pathlib import Path

from postwarden.telemetry.reference_page import filled
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.telemetry.reference import VERDICTS, tables

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md"


def test_the_page_has_every_table_as_the_code_makes_it() -> None:
    text = PAGE.read_text()
    for name, table in tables().items():
        assert f"<!-- table: {name} -->\n{table}\n<!-- end -->" in text
    assert filled(text, tables()) == text


def test_every_verdict_is_explained() -> None:
    assert set(VERDICTS) == set(Verdict)


def test_tables_are_made_anew_between_their_markers() -> None:
    text = "a\n<!-- table: verdicts -->\nold\n<!-- end -->\nb\n"
    assert filled(text, tables()) == f"a\n<!-- table: verdicts -->\n{tables()['verdicts']}\n<!-- end -->\nb\n"
