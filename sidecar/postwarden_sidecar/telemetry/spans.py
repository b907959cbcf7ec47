"""The trace of one connection, made when it is over: `smtp.screen` with children `pregreet`, `smtp.dialog`, `handoff`.

A worker makes no spans (one costs more than the whole budget of a drop): it notes times, and the supervisor builds the few traces
that are sampled from them, with explicit start and end. A client's own trace context is never taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from postwarden_sidecar.engine.record import Event, EventKind, Record, Verdict
from postwarden_sidecar.telemetry.attributes import Value
from postwarden_sidecar.telemetry.escape import MAX_REASON, printable
from postwarden_sidecar.telemetry.logs import details

ROOT = "smtp.screen"


@dataclass(frozen=True, slots=True)
class Outline:
    """A span to be made. start, end: epoch nanoseconds."""

    name: str
    start: int
    end: int
    attributes: dict[str, Value] = field(default_factory=dict)


def outline(record: Record) -> list[Outline]:
    """The spans of a connection, the root first. Children lie within it."""

    def span(name: str, start: float, end: float, attributes: dict[str, Value] | None = None) -> Outline:
        start = min(max(start, 0.0), record.duration)
        end = min(max(end, start), record.duration)
        return Outline(name, _moment(record, start), _moment(record, end), attributes or {})

    spans = [span(ROOT, 0.0, record.duration)]
    for result in record.tests:
        if result.test == "pregreet":
            said: dict[str, Value] = {
                "postwarden.test": "pregreet",
                "postwarden.outcome": printable(result.outcome),
            }
            if result.action:
                said["postwarden.action"] = printable(result.action)
            spans.append(span("pregreet", result.start, result.end, said))
    handed_over = record.handoff_start >= 0
    if record.dialog_start >= 0:
        end = record.handoff_start if record.handoff_start >= record.dialog_start else record.duration
        spans.append(span("smtp.dialog", record.dialog_start, end))
    if handed_over:
        spans.append(span("handoff", record.handoff_start, record.duration, _handoff(record)))
    return spans


def emit(
    tracer: Tracer, record: Record, outlines: list[Outline], attributes: Mapping[str, Value]
) -> SpanContext:
    """Make and end the spans; the root gets the record's attributes and events. Returns the root's context."""
    root_outline, *children = outlines
    # An empty Context: the supervisor's own current span, if any, is not the parent.
    root = tracer.start_span(
        root_outline.name,
        Context(),
        SpanKind.SERVER,
        attributes=dict(attributes),
        start_time=root_outline.start,
    )
    for event in record.events:
        _add_event(root, record, event)
    if record.verdict is Verdict.ERROR:
        root.set_status(Status(StatusCode.ERROR, printable(record.reason, MAX_REASON)))
    context = set_span_in_context(root, Context())
    for child in children:
        tracer.start_span(child.name, context, attributes=child.attributes, start_time=child.start).end(
            child.end
        )
    root.end(root_outline.end)
    return root.get_span_context()


def _add_event(span: Span, record: Record, event: Event) -> None:
    attributes = {f"postwarden.{key}": value for key, value in details(event).items()}
    span.add_event(event.kind.value, attributes, _moment(record, event.offset))


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
