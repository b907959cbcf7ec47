"""A sidecar's spans, log records and metrics on their way to an OTLP endpoint; `postwarden.telemetry.export` does the sending."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)
from postwarden.telemetry import exporters
from postwarden.telemetry.endpoint import Endpoint, Signal
from postwarden.telemetry.export import BATCH_DELAY_MS, BATCH_SIZE, Export
from postwarden.telemetry.otlp_metrics import INTERVAL
from postwarden.telemetry.readings import Reading
from postwarden.telemetry.traceparent import parse

from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.telemetry import spans
from postwarden_sidecar.telemetry.attributes import Value
from postwarden_sidecar.telemetry.policy_push import PolicyPush

SCOPE = "postwarden_sidecar.telemetry"
EVENT_NAME = "postwarden.connection"
APPLY = "policy.apply"
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
        log_exporter = exporters.log_exporter(logs_to) if logs_to is not None else None
        self._export = Export(
            endpoints, resource, SCOPE, read, clock=clock, metrics_interval=metrics_interval
        )
        self._logs = self._export.outlet("logs", logs_to, clock)
        logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        if log_exporter is not None:
            logger_provider.add_log_record_processor(
                BatchLogRecordProcessor(
                    exporters.CountedLogExporter(log_exporter, self._logs),
                    schedule_delay_millis=BATCH_DELAY_MS,
                    max_export_batch_size=BATCH_SIZE,
                    max_queue_size=exporters.QUEUE_LIMIT,
                )
            )
            self._export.also(logger_provider.shutdown, log_exporter.shutdown)
        self._logger = logger_provider.get_logger(SCOPE)

    def trace(self, record: Record, attributes: Mapping[str, Value]) -> SpanContext | None:
        """Queue the spans of a connection. None if they had no room."""
        outline = spans.outline(record)
        if not self._export.traces.admit(spans.count(outline)):
            return None
        return spans.emit(self._export.tracer, record, outline, attributes)

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

    def log(self, record: Record, attributes: Mapping[str, Value], trace: SpanContext | None) -> None:
        """Queue one log record, joined to its trace if there is one."""
        if not self._logs.admit(1):
            return
        number, text = _SEVERITY.get(record.verdict, (SeverityNumber.INFO, "INFO"))
        context = set_span_in_context(NonRecordingSpan(trace), Context()) if trace else Context()
        self._logger.emit(
            LogRecord(
                timestamp=round((record.started + record.duration) * 1e9),
                context=context,
                severity_number=number,
                severity_text=text,
                body=attributes.get("postwarden.reason", ""),
                attributes=dict(attributes),
                event_name=EVENT_NAME,
            )
        )

    def dropped(self) -> dict[str, int]:
        """Spans and log records that were lost, by signal."""
        return {"span": self._export.traces.dropped, "log": self._logs.dropped}

    def close(self, timeout: float) -> None:
        """See Export.close."""
        self._export.close(timeout)
