"""What `tail` prints, whatever a sidecar sends."""

from __future__ import annotations

import json
from typing import Any

from hostile_strategies import hostile_texts
from hypothesis import given
from hypothesis import strategies as st
from postwarden_cli.verdict_lines import SHOWN_POD, json_line, short, text_line
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.telemetry import logs
from postwarden_sidecar.telemetry.pretty import pretty_line
from record_strategies import records
from telemetry.samples import record

anything = st.recursive(
    st.none() | st.integers() | st.floats() | hostile_texts(), lambda of: st.lists(of, max_size=3)
)
KEYS = (
    "time",
    "client.address",
    "client.port",
    "postwarden.verdict",
    "postwarden.reason",
    "postwarden.would",
    "records",
)


@given(records())
def test_a_verdict_is_shown_as_in_the_pretty_log(made: Record) -> None:
    line = json.loads(logs.json_line(made))
    for colour in (False, True):
        assert text_line(line, "", 0, colour=colour) == pretty_line(made, colour=colour)


def test_several_pods_have_a_column() -> None:
    line = json.loads(logs.json_line(record()))
    assert "  mta-0   rejected     " in text_line(line, "mta-0", 6, colour=False)
    assert text_line({"postwarden.tail": "lost", "records": 7}, "mta-0", 6, colour=False) == (
        "          mta-0   … 7 verdicts came too fast to be shown"
    )
    long = short("a-deployment-with-a-very-long-name-7d9c6b5f4d-x2x9q")
    assert len(long) == SHOWN_POD
    assert long.endswith("7d9c6b5f4d-x2x9q")


@given(st.dictionaries(st.sampled_from(KEYS), anything), hostile_texts())
def test_no_sidecar_can_write_to_the_terminal_what_is_no_text(line: dict[str, Any], name: str) -> None:
    assert text_line(line, name, 10, colour=False).isprintable()
    coloured = text_line(line, name, 10, colour=True)
    assert coloured.count("\x1b") in (0, 2)
    assert len(coloured) < 20_000
    shown = json_line(line, {"k8s.pod.name": name})
    assert shown.isascii()
    assert shown.isprintable()
