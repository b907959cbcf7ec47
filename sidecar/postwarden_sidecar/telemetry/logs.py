"""One JSON object a line for each connection: the span's attributes as flat keys, and what a span has elsewhere.

time: RFC 3339, UTC, when the connection began. duration: seconds up to the verdict or the hand-off. trace_id, span_id: where a trace was
sampled. tests, events: what was tested, and what happened when (seconds since `time`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from postwarden_sidecar.engine.record import Event, Lookup, Record, TestResult
from postwarden_sidecar.telemetry.attributes import attributes
from postwarden_sidecar.telemetry.escape import printable

_DIGITS = 6  # of a second: microseconds
_ENCODER = msgspec.json.Encoder()


def json_line(record: Record, trace_id: str = "", span_id: str = "") -> bytes:
    """The line, with no line end. trace_id, span_id: lower-case hex, or empty."""
    line: dict[str, object] = {"time": rfc3339(record.started), "duration": round(record.duration, _DIGITS)}
    if trace_id:
        line |= {"trace_id": trace_id, "span_id": span_id}
    line |= attributes(record)
    if record.tests:
        line["postwarden.tests"] = [_test(result) for result in record.tests]
    if record.lookups:
        line["postwarden.lookups"] = [_lookup(lookup) for lookup in record.lookups]
    if record.events:
        line["postwarden.events"] = [_event(event) for event in record.events]
    if record.events_lost:
        line["postwarden.events_lost"] = record.events_lost
    return _ENCODER.encode(line)


def stress_line(moment: float, on: bool, connections: int) -> bytes:
    """Of no client: the sidecar as a whole is short of room, or no longer. moment: epoch seconds."""
    said = {"time": rfc3339(moment), "postwarden.stress": on, "postwarden.screening": connections}
    return _ENCODER.encode(said)


def rfc3339(moment: float) -> str:
    """`2026-01-31T12:00:00.123456Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def details(event: Event) -> dict[str, str | int]:
    """What an event says besides its kind and time, escaped."""
    texts = {
        "text": event.text,
        "sender": event.sender,
        "recipient": event.recipient,
        "helo": event.helo,
        "proto": event.proto,
    }
    said: dict[str, str | int] = {key: printable(text) for key, text in texts.items() if text}
    if event.count:
        said["count"] = event.count
    return said


def _event(event: Event) -> dict[str, object]:
    return {"event": event.kind.value, "offset": round(event.offset, _DIGITS), **details(event)}


def _lookup(lookup: Lookup) -> dict[str, object]:
    said = {"zone": printable(lookup.zone), "outcome": printable(lookup.outcome)}
    return {**said, "start": round(lookup.start, _DIGITS), "end": round(lookup.end, _DIGITS)}


def _test(result: TestResult) -> dict[str, object]:
    shown: dict[str, object] = {"test": printable(result.test), "outcome": printable(result.outcome)}
    if result.action:
        shown["action"] = printable(result.action)
    if result.detail:
        shown["detail"] = printable(result.detail)
    return shown | {"start": round(result.start, _DIGITS), "end": round(result.end, _DIGITS)}
