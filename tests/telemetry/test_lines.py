"""JSON and pretty lines."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.telemetry.attributes import attributes
from postwarden_sidecar.telemetry.escape import printable
from postwarden_sidecar.telemetry.logs import details, json_line, rfc3339
from postwarden_sidecar.telemetry.pretty import pretty_line
from record_strategies import records
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


def told_by_dictionaries(record: Record, trace_id: str, span_id: str) -> bytes:
    """The same line, made the plain way."""
    line: dict[str, object] = {"time": plain_time(record.started), "duration": round(record.duration, 6)}
    if trace_id:
        line |= {"trace_id": trace_id, "span_id": span_id}
    line |= attributes(record)
    tests = []
    for result in record.tests:
        said = {
            "test": result.test,
            "outcome": result.outcome,
            "action": result.action,
            "detail": result.detail,
        }
        optional = {"action", "detail"}
        shown = {key: printable(text) for key, text in said.items() if text or key not in optional}
        tests.append({**shown, "start": round(result.start, 6), "end": round(result.end, 6)})
    lookups = [
        {"zone": printable(each.zone), "outcome": printable(each.outcome), "start": round(each.start, 6), "end": round(each.end, 6)}
        for each in record.lookups
    ]  # fmt: skip
    events = [
        {"event": event.kind.value, "offset": round(event.offset, 6), **details(event)}
        for event in record.events
    ]
    more = {"tests": tests, "lookups": lookups, "events": events, "events_lost": record.events_lost}
    line |= {f"postwarden.{key}": value for key, value in more.items() if value}
    return msgspec.json.encode(line)


def plain_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@given(st.one_of(records(), records(st.sampled_from(["", "plain", "dnsbl", "score 4"]))), st.booleans())
def test_a_json_line_says_what_dictionaries_would_in_the_same_order(made: Record, traced: bool) -> None:
    ids = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331") if traced else ("", "")
    assert json_line(made, *ids) == told_by_dictionaries(made, *ids)


@given(st.floats(-1e9, 4e9) | st.integers(0, 10**7).map(lambda tenths: tenths / 1e7))
def test_times_are_rounded_to_microseconds(moment: float) -> None:
    assert rfc3339(moment) == plain_time(moment)


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
