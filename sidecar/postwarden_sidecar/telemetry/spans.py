"""The trace of one connection, made when it is over: `smtp.screen` with children `pregreet`, `dnsbl` (and in it a look-up each),
`smtp.dialog`, `handoff`.

A worker makes no spans (one costs more than the whole budget of a drop): it notes times, and the supervisor builds the few traces
that are sampled from them, with explicit start and end. A client's own trace context is never taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult, Verdict
from postwarden_sidecar.telemetry.attributes import Value, attributes, dnsbl_score
from postwarden_sidecar.telemetry.escape import MAX_REASON, printable
from postwarden_sidecar.telemetry.logs import details

ROOT = "smtp.screen"
LOOKUP = "dnsbl.lookup"
_UNSET = Status()


@dataclass(slots=True)
class Outline:
    """A span to be made. start, end: epoch nanoseconds. children: within it; look-ups that ran side by side overlap."""

    name: str
    start: int
    end: int
    attributes: dict[str, Value] = field(default_factory=dict)
    kind: SpanKind = SpanKind.INTERNAL
    children: list[Outline] = field(default_factory=list)


def outline(record: Record) -> Outline:
    """The root span of a connection. Children lie within it."""

    def span(name: str, start: float, end: float, attributes: dict[str, Value] | None = None) -> Outline:
        start = min(max(start, 0.0), record.duration)
        end = min(max(end, start), record.duration)
        return Outline(name, _moment(record, start), _moment(record, end), attributes or {})

    root = span(ROOT, 0.0, record.duration)
    root.kind = SpanKind.SERVER
    spans = root.children
    early = {result.test: result for result in record.tests if result.test in ("pregreet", "dnsbl")}
    for test, result in early.items():
        # The lists till their last answer: what they add up to is acted upon later, when the wait for the greeting is over.
        answered = [each.end for each in record.lookups] if test == "dnsbl" else []
        spans.append(span(test, result.start, max(answered, default=result.end), _test(record, result)))
    if record.lookups:
        first, last = min(each.start for each in record.lookups), max(each.end for each in record.lookups)
        if "dnsbl" not in early:  # the client went while lists were asked
            spans.append(span("dnsbl", first, last, {"postwarden.test": "dnsbl"}))
        parent = next(each for each in spans if each.name == "dnsbl")
        for lookup in record.lookups:
            said: dict[str, Value] = {
                "postwarden.dnsbl.zone": printable(lookup.zone),
                "postwarden.dnsbl.outcome": printable(lookup.outcome),
            }
            child = span(LOOKUP, lookup.start, lookup.end, said)
            child.kind = SpanKind.CLIENT
            parent.children.append(child)
    handed_over = record.handoff_start >= 0
    if record.dialog_start >= 0:
        end = record.handoff_start if record.handoff_start >= record.dialog_start else record.duration
        spans.append(span("smtp.dialog", record.dialog_start, end))
    if handed_over:
        spans.append(span("handoff", record.handoff_start, record.duration, _handoff(record)))
    return root


def count(record: Record) -> int:
    """How many spans that makes, told without making them."""
    early = {result.test for result in record.tests if result.test in ("pregreet", "dnsbl")}
    if record.lookups:
        early.add("dnsbl")
    return 1 + len(early) + len(record.lookups) + (record.dialog_start >= 0) + (record.handoff_start >= 0)


def made(
    record: Record,
    root: SpanContext,
    next_id: Callable[[], int],
    resource: Resource,
    scope: InstrumentationScope,
) -> list[ReadableSpan]:
    """The spans, root first; it gets the record's attributes and events. root: its context; next_id: ids of the others.

    They are made as the exporter reads them, without a tracer, which takes ten times as long."""
    found: list[ReadableSpan] = []

    def add(each: Outline, context: SpanContext, parent: SpanContext | None) -> None:
        is_root = parent is None
        failed = is_root and record.verdict is Verdict.ERROR
        found.append(
            ReadableSpan(
                each.name,
                context,
                parent,
                resource,
                attributes(record) if is_root else each.attributes,
                [_event(record, event) for event in record.events] if is_root else (),
                kind=each.kind,
                status=Status(StatusCode.ERROR, printable(record.reason, MAX_REASON)) if failed else _UNSET,
                start_time=each.start,
                end_time=each.end,
                instrumentation_scope=scope,
            )
        )
        for child in each.children:
            add(child, SpanContext(root.trace_id, next_id(), False, root.trace_flags), context)

    add(outline(record), root, None)
    return found


def _test(record: Record, result: TestResult) -> dict[str, Value]:
    said: dict[str, Value] = {
        "postwarden.test": printable(result.test),
        "postwarden.outcome": printable(result.outcome),
    }
    if result.action:
        said["postwarden.action"] = printable(result.action)
    if result.test == "dnsbl" and (score := dnsbl_score(record)) is not None:
        said["postwarden.dnsbl.score"] = score
    return said


def _event(record: Record, event: Event) -> SpanEvent:
    said = {f"postwarden.{key}": value for key, value in details(event).items()}
    return SpanEvent(event.kind.value, said, _moment(record, event.offset))


def _handoff(record: Record) -> dict[str, Value]:
    attributes: dict[str, Value] = {}
    if record.handoff:
        attributes["postwarden.handoff"] = printable(record.handoff)
    failed = [event.text for event in record.events if event.kind is EventKind.HANDOFF_FAILED]
    if failed:
        attributes["postwarden.handoff.outcome"] = printable(failed[-1])
    return attributes


def _moment(record: Record, offset: float) -> int:
    return round((record.started + offset) * 1e9)
