"""A sidecar's spans, log records and metrics on their way to an OTLP endpoint; `postwarden.telemetry.export` does the sending.

What waits is records: spans and log records are made of them when they are sent (`postwarden.telemetry.outlet`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from postwarden.telemetry import exporters
from postwarden.telemetry.endpoint import Endpoint, Signal
from postwarden.telemetry.export import Export
from postwarden.telemetry.log_wire import LogFrame, encoded, log_record
from postwarden.telemetry.otlp_metrics import INTERVAL
from postwarden.telemetry.outlet import Outlet
from postwarden.telemetry.readings import Reading
from postwarden.telemetry.traceparent import parse

from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.record import Record, Verdict, Visit
from postwarden_sidecar.telemetry import spans
from postwarden_sidecar.telemetry.attributes import Value, attributes, of_visit
from postwarden_sidecar.telemetry.policy_push import PolicyPush

SCOPE = "postwarden_sidecar.telemetry"
EVENT_NAME = "postwarden.connection"
APPLY = "policy.apply"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SEVERITY = {
    Verdict.DEFERRED: (SeverityNumber.WARN, "WARN"),
    Verdict.OVERLOADED: (SeverityNumber.WARN, "WARN"),
    Verdict.ERROR: (SeverityNumber.ERROR, "ERROR"),
}


class Otlp:
    """endpoints: by signal. read: the metrics of now. clock: seconds, never going back. metrics_interval: seconds. Raises what the
    exporters raise for settings that can't be (OTEL_EXPORTER_OTLP_* variables)."""

    def __init__(
        self,
        endpoints: Mapping[Signal, Endpoint],
        resource: Resource,
        read: Callable[[], Sequence[Reading]],
        *,
        clock: Callable[[], float] = time.monotonic,
        metrics_interval: float = INTERVAL,
    ) -> None:
        logs_to = endpoints.get("logs")
        self._resource = resource
        self._scope = InstrumentationScope(SCOPE)
        frame = LogFrame(resource, self._scope)
        exporter = exporters.log_exporter(logs_to, frame) if logs_to is not None else None
        self._export = Export(
            endpoints, resource, SCOPE, read, clock=clock, metrics_interval=metrics_interval
        )
        self._logs: Outlet[bytes] = self._export.outlet(
            "logs",
            logs_to,
            None if exporter is None else lambda logs: exporter.export(logs) is LogRecordExportResult.SUCCESS,
            clock,
        )
        if exporter is not None:
            self._export.interrupt(exporter.shutdown)
        self._ids = RandomIdGenerator()

    def trace(self, record: Record) -> SpanContext | None:
        """Queue the spans of a connection. None if they had no room."""
        items = spans.count(record)
        if not self._export.traces.admit(items):
            return None
        ids = self._ids
        root = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), False, _SAMPLED)
        self._export.traces.queue(partial(self._spans, record, root), items)
        return root

    def _spans(self, record: Record, root: SpanContext) -> Sequence[ReadableSpan]:
        return spans.made(record, root, self._ids.generate_span_id, self._resource, self._scope)

    def policy(self, push: PolicyPush) -> None:
        """Queue the span of a policy that came, in the operator's trace; none where that is not sampled."""
        parent = parse(push.traceparent)
        if parent is None or not parent.trace_flags.sampled or not self._export.traces.admit(1):
            return
        span = self._export.tracer.start_span(
            APPLY,
            set_span_in_context(NonRecordingSpan(parent), Context()),
            SpanKind.CONSUMER,
            attributes=push.attributes(),
            start_time=round(push.start * 1e9),
        )
        if push.refused:
            span.set_status(Status(StatusCode.ERROR, push.reason))
        span.end(round(push.end * 1e9))

    def log(self, record: Record, trace: SpanContext | None) -> None:
        """Queue one log record, joined to its trace if there is one."""
        if self._logs.admit(1):
            self._logs.queue(partial(logs_of, record, trace, time.time_ns()), 1)

    def log_alike(self, template: Record, visits: Sequence[tuple[Visit, SpanContext | None]]) -> None:
        """The same of visits, each with its trace; none of them, if not all have room."""
        if self._logs.admit(len(visits)):
            self._logs.queue(partial(logs_alike, template, visits, time.time_ns()), len(visits))

    def dropped(self) -> dict[str, int]:
        """Spans and log records that were lost, by signal."""
        return {"span": self._export.traces.dropped, "log": self._logs.dropped}

    def close(self, timeout: float) -> None:
        """See Export.close."""
        self._export.close(timeout)


def logs_of(record: Record, trace: SpanContext | None, observed: int) -> Sequence[bytes]:
    """A connection's log records, of which it has one. observed: nanoseconds of the epoch."""
    return (_log_record(record, record.started + record.duration, attributes(record), trace, observed),)


def logs_alike(
    template: Record, visits: Sequence[tuple[Visit, SpanContext | None]], observed: int
) -> Sequence[bytes]:
    """The same of visits that have a template in common, of which there is one at least: what they have in common is encoded once."""
    differing = of_visit(template, visits[0][0])
    common = encoded(
        {
            key: value
            for key, value in attributes(whole(template, visits[0][0])).items()
            if key not in differing
        }
    )
    return [
        _log_record(template, visit.started + visit.after, of_visit(template, visit), trace, observed, common)
        for visit, trace in visits
    ]


def _log_record(
    record: Record,
    ended: float,
    said: Mapping[str, Value],
    trace: SpanContext | None,
    observed: int,
    more: bytes = b"",
) -> bytes:
    number, text = _SEVERITY.get(record.verdict, (SeverityNumber.INFO, "INFO"))
    return log_record(
        said,
        body=str(said.get("postwarden.reason", "")),
        severity=number,
        severity_text=text,
        event_name=EVENT_NAME,
        moment=round(ended * 1e9),
        observed=observed,
        trace=trace,
        more=more,
    )
