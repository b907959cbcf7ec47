"""One JSON object a line for each connection: the span's attributes as flat keys, and what a span has elsewhere.

time: RFC 3339, UTC, when the connection began. duration: seconds up to the verdict or the hand-off. trace_id, span_id: where a trace was
sampled. tests, events: what was tested, and what happened when (seconds since `time`).

Each connection has its line, so the lines are structs that msgspec encodes, at a fifth of what dictionaries cost (docs/performance.md).
The keys of the attributes are those of `telemetry.attributes`, in its order; a test compares.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from math import floor

import msgspec
from msgspec import UNSET, UnsetType, field

from postwarden_sidecar.engine.alike import reason
from postwarden_sidecar.engine.record import MAX_TEXT, Event, Lookup, Record, TestResult, Verdict, Visit
from postwarden_sidecar.telemetry.attributes import ERROR_OTHER, PROTOCOL, TRANSPORT, dnsbl_score
from postwarden_sidecar.telemetry.escape import MAX_REASON, all_printable, printable

_DIGITS = 6  # of a second: microseconds
_ENCODER = msgspec.json.Encoder()


# Keys in this order. What is UNSET, or has its default, is left out. They are made by position: by name takes three times as long.
class _Test(msgspec.Struct, gc=False):
    test: str
    outcome: str
    action: str | UnsetType
    detail: str | UnsetType
    start: float
    end: float


class _Lookup(msgspec.Struct, gc=False):
    zone: str
    outcome: str
    start: float
    end: float


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    event: str
    offset: float
    text: str = ""
    sender: str = ""
    recipient: str = ""
    helo: str = ""
    proto: str = ""
    count: int = 0


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    time: str
    duration: float
    trace_id: str | UnsetType
    span_id: str | UnsetType
    client_address: str = field(name="client.address")
    client_port: int = field(name="client.port")
    server_address: str = field(name="server.address")
    server_port: int = field(name="server.port")
    peer_address: str = field(name="network.peer.address")
    peer_port: int = field(name="network.peer.port")
    transport: str = field(name="network.transport")
    protocol: str = field(name="network.protocol.name")
    error_type: str | UnsetType = field(name="error.type")
    verdict: str = field(name="postwarden.verdict")
    reason: str = field(name="postwarden.reason", default="")
    test: str = field(name="postwarden.test", default="")
    action: str = field(name="postwarden.action", default="")
    dnsbl_score: int | None = field(name="postwarden.dnsbl.score", default=None)
    would: str = field(name="postwarden.would", default="")
    handoff: str = field(name="postwarden.handoff", default="")
    policy_name: str = field(name="postwarden.policy.name", default="")
    policy_namespace: str = field(name="postwarden.policy.namespace", default="")
    policy_revision: str = field(name="postwarden.policy.revision", default="")
    helo: str = field(name="postwarden.helo", default="")
    sender: str | UnsetType = field(name="postwarden.sender", default=UNSET)  # "": the null sender
    recipient: str = field(name="postwarden.recipient", default="")
    tests: list[_Test] = field(name="postwarden.tests", default_factory=list)
    lookups: list[_Lookup] = field(name="postwarden.lookups", default_factory=list)
    events: list[_Event] = field(name="postwarden.events", default_factory=list)
    events_lost: int = field(name="postwarden.events_lost", default=0)


def json_line(record: Record, trace_id: str = "", span_id: str = "") -> bytes:
    """The line, with no line end. trace_id, span_id: lower-case hex, or empty."""
    return _ENCODER.encode(_line(record, trace_id, span_id))


class AlikeLines:
    """Lines of visits that have a template in common: what differs is put into one and the same line."""

    def __init__(self, template: Record) -> None:
        self._template = template
        self._line = _line(template, "", "")
        self._started, self._after = -1.0, 0.0

    def line(self, visit: Visit, trace_id: str = "", span_id: str = "") -> bytes:
        """As `json_line` of the visit's record."""
        line = self._line
        said = reason(self._template, visit)
        line.reason = printable(said, MAX_REASON)
        if line.reason is said and len(said) <= MAX_TEXT:  # nothing was escaped, and both are in it
            address, place = visit.address, visit.place
        else:
            address, place = printable(visit.address), printable(visit.place)
        if visit.started != self._started:  # those of one turn have come at the same moment
            self._started, line.time = visit.started, rfc3339(visit.started)
        line.trace_id, line.span_id = trace_id or UNSET, span_id or UNSET
        line.client_address = line.peer_address = address
        line.client_port = line.peer_port = visit.port
        line.server_address, line.server_port = printable(visit.server_address), visit.server_port
        if place:
            for test in line.tests:
                test.detail = place
        if visit.after != self._after:
            self._set_after(visit.after)
        if visit.size:
            event = line.events[1]
            event.text, event.count = printable(visit.said), visit.size
        return _ENCODER.encode(line)

    def _set_after(self, after: float) -> None:
        line, self._after = self._line, after
        line.duration = seconds = _seconds(after)
        for test in line.tests:
            test.start = test.end = seconds
        for event in line.events[1:]:
            event.offset = seconds


def _line(record: Record, trace_id: str, span_id: str) -> _Line:
    client, server, peer, test, action, would, handoff, policy, namespace, revision = all_printable(
        (
            record.client_address,
            record.server_address,
            record.peer_address,
            record.test,
            record.action,
            record.would,
            record.handoff,
            record.policy_name,
            record.policy_namespace,
            record.policy_revision,
        )
    )
    verdict, duration, lookups = record.verdict, record.duration, record.lookups
    helo, sender, recipient = record.helo, record.sender, record.recipient
    return _Line(
        rfc3339(record.started),
        duration and _seconds(duration),
        trace_id or UNSET,
        span_id or UNSET,
        client,
        record.client_port,
        server,
        record.server_port,
        peer,
        record.peer_port,
        TRANSPORT,
        PROTOCOL,
        ERROR_OTHER if verdict is Verdict.ERROR else UNSET,
        verdict._value_,
        printable(record.reason, MAX_REASON),
        test,
        action,
        dnsbl_score(record),
        would,
        handoff,
        policy,
        namespace,
        revision,
        helo and printable(helo),
        printable(sender) if sender or recipient else UNSET,
        recipient and printable(recipient),
        [_test(result) for result in record.tests],
        [_lookup(lookup) for lookup in lookups] if lookups else [],
        [_event(event) for event in record.events],
        record.events_lost,
    )


def stress_line(moment: float, on: bool, connections: int) -> bytes:
    """Of no client: the sidecar as a whole is short of room, or no longer. moment: epoch seconds."""
    said = {"time": rfc3339(moment), "postwarden.stress": on, "postwarden.screening": connections}
    return _ENCODER.encode(said)


def rfc3339(moment: float) -> str:
    """`2026-01-31T12:00:00.123456Z`. moment: epoch seconds."""
    second = floor(moment)
    microsecond = round((moment - second) * 1_000_000)
    if microsecond == 1_000_000:
        second, microsecond = second + 1, 0
    return f"{_to_the_second(second)}.{microsecond:06d}Z"


@lru_cache(2)  # most lines are of the second of the line before
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


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


def _event(event: Event) -> _Event:
    text, offset = event.text, event.offset
    sender = recipient = helo = proto = ""
    if event.proto or event.sender or event.recipient or event.helo:  # a refused recipient
        sender, recipient, helo, proto = all_printable(
            (event.sender, event.recipient, event.helo, event.proto)
        )
    return _Event(
        event.kind._value_,
        offset and _seconds(offset),
        text and printable(text),
        sender,
        recipient,
        helo,
        proto,
        event.count,
    )


def _lookup(lookup: Lookup) -> _Lookup:
    zone, outcome = all_printable((lookup.zone, lookup.outcome))
    return _Lookup(zone, outcome, _seconds(lookup.start), _seconds(lookup.end))


def _test(result: TestResult) -> _Test:
    test, outcome, action, detail = all_printable((result.test, result.outcome, result.action, result.detail))
    start, end = result.start, result.end
    return _Test(
        test, outcome, action or UNSET, detail or UNSET, start and _seconds(start), end and _seconds(end)
    )


@lru_cache(64)  # the parts of a connection often share their moments
def _seconds(exact: float) -> float:
    return round(exact, _DIGITS)
