"""JSON and pretty lines."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.telemetry.attributes import attributes
from postwarden_sidecar.telemetry.logs import json_line
from postwarden_sidecar.telemetry.pretty import pretty_line
from strategies import records
from telemetry.samples import passed, record


def test_a_json_line_has_the_spans_attributes_as_flat_keys() -> None:
    line = json.loads(json_line(record(), "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"))
    assert line["time"] == "2026-01-02T03:04:05.250000Z"
    assert line["duration"] == 2.5
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["span_id"] == "b7ad6b7169203331"
    assert line["client.address"] == "192.168.7.9"
    assert line["network.peer.address"] == "10.0.0.3"
    assert line["postwarden.verdict"] == "rejected"
    assert line["postwarden.helo"] == "c.example"
    assert line["postwarden.policy.name"] == "edge"
    assert line["postwarden.tests"] == [
        {
            "test": "access",
            "outcome": "fail",
            "action": "Enforce",
            "detail": "spec.access.rules[1] line 4",
            "start": 0,
            "end": 0,
        }
    ]
    assert [event["event"] for event in line["postwarden.events"]] == [
        "connect",
        "denylisted",
        "reject",
        "disconnect",
    ]
    assert attributes(record()).items() <= line.items()


def test_what_does_not_apply_is_left_out() -> None:
    line = json.loads(json_line(passed()))
    assert (
        not {"trace_id", "span_id", "error.type", "postwarden.would", "postwarden.helo", "postwarden.sender"}
        & line.keys()
    )


def test_only_a_fault_of_ours_has_an_error_type() -> None:
    kinds = {verdict: "error.type" in attributes(record(verdict=verdict)) for verdict in Verdict}
    assert [verdict for verdict, has in kinds.items() if has] == [Verdict.ERROR]


def test_the_null_sender_is_shown_once_there_is_a_recipient() -> None:
    assert attributes(record(sender=""))["postwarden.sender"] == ""
    assert "postwarden.sender" not in attributes(record(sender="", recipient=""))


@given(records())
def test_every_record_is_one_json_object_without_control_characters(made: Record) -> None:
    line = json_line(made).decode()
    assert line.isprintable()
    assert json.loads(line)["postwarden.verdict"] == made.verdict.value
    assert len(line) < 64 * 1024


@given(records())
def test_every_record_is_one_pretty_line_without_control_characters(made: Record) -> None:
    assert pretty_line(made, colour=False).isprintable()
    coloured = pretty_line(made, colour=True)
    assert coloured.count("\x1b") == 2
    assert coloured.splitlines() == [coloured]


def test_a_pretty_line_tells_time_verdict_address_and_reason() -> None:
    clock = time.strftime("%H:%M:%S", time.localtime(record().started))
    made = record(would="dropped", client_address="2001:db8::1")
    assert pretty_line(made, colour=False) == (
        f"{clock}  rejected     [2001:db8::1]:40001    denied by spec.access.rules[1] (under Enforce: dropped)"
    )


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("192.0.2.1 is rejected by spec.access.rules[0]", "is rejected by spec.access.rules[0]"),
        ("192.0.2.1: it sent what is no SMTP command", "sent what is no SMTP command"),
        ("192.0.2.11 has more than 50 connections", "192.0.2.11 has more than 50 connections"),
        ("no policy is in force", "no policy is in force"),
    ],
)
def test_a_pretty_line_tells_the_address_once(reason: str, shown: str) -> None:
    made = record(reason=reason, client_address="192.0.2.1", client_port=25)
    assert pretty_line(made, colour=False).split("192.0.2.1:25")[1].strip() == shown
