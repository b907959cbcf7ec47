"""Spans, log records and metrics on their way to an OTLP endpoint.

The SDK's batch processors and exporters do the sending, on threads of their own; no provider is made global. Everything that waits is
bounded by an Outlet, and an endpoint that is down costs its memory and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.telemetry import exporters, spans
from postwarden_sidecar.telemetry.attributes import Value
from postwarden_sidecar.telemetry.endpoint import Endpoint
from postwarden_sidecar.telemetry.health import Health
from postwarden_sidecar.telemetry.metrics import Reading
from postwarden_sidecar.telemetry.otlp_metrics import INTERVAL, MetricsThread, metrics_data

SCOPE = "postwarden_sidecar.telemetry"
EVENT_NAME = "postwarden.connection"
BATCH_DELAY_MS = 1000  # a verdict is to be seen soon; the SDK's default for spans is 5 s
BATCH_SIZE = 512  # the SDK's default
_SEVERITY = {
    Verdict.DEFERRED: (SeverityNumber.WARN, "WARN"),
    Verdict.OVERLOADED: (SeverityNumber.WARN, "WARN"),
    Verdict.ERROR: (SeverityNumber.ERROR, "ERROR"),
}


class Otlp:
    """read: the metrics of now. clock: seconds, never going back. metrics_interval: seconds. Raises what the exporters raise for
    settings that can't be (OTEL_EXPORTER_OTLP_* variables)."""

    def __init__(
        self,
        endpoint: Endpoint,
        resource: Resource,
        read: Callable[[], Sequence[Reading]],
        *,
        clock: Callable[[], float] = time.monotonic,
        metrics_interval: float = INTERVAL,
    ) -> None:
        span_exporter = exporters.span_exporter(endpoint)
        log_exporter = exporters.log_exporter(endpoint)
        metric_exporter = exporters.metric_exporter(endpoint)
        self._health = Health(endpoint.url, clock)
        self._traces = exporters.Outlet("traces", self._health)
        self._logs = exporters.Outlet("logs", self._health)

        self._tracer_provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._tracer_provider.add_span_processor(
            BatchSpanProcessor(
                exporters.CountedSpanExporter(span_exporter, self._traces),
                max_queue_size=exporters.QUEUE_LIMIT,
                schedule_delay_millis=BATCH_DELAY_MS,
                max_export_batch_size=BATCH_SIZE,
            )
        )
        self._tracer = self._tracer_provider.get_tracer(SCOPE)
        self._logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        self._logger_provider.add_log_record_processor(
            BatchLogRecordProcessor(
                exporters.CountedLogExporter(log_exporter, self._logs),
                schedule_delay_millis=BATCH_DELAY_MS,
                max_export_batch_size=BATCH_SIZE,
                max_queue_size=exporters.QUEUE_LIMIT,
            )
        )
        self._logger = self._logger_provider.get_logger(SCOPE)

        start = time.time_ns()
        scope = InstrumentationScope(SCOPE)

        def collect() -> MetricsData:
            return metrics_data(read(), resource, scope, start, time.time_ns())

        self._metrics = MetricsThread(metric_exporter, collect, self._health, metrics_interval)
        # What interrupts an exporter that waits for its endpoint.
        self._interrupts: tuple[Callable[[], object], ...] = (
            self._metrics.abandon,
            span_exporter.shutdown,
            log_exporter.shutdown,
            metric_exporter.shutdown,
        )

    def trace(self, record: Record, attributes: Mapping[str, Value]) -> SpanContext | None:
        """Queue the spans of a connection. None if they had no room."""
        outline = spans.outline(record)
        if not self._traces.admit(spans.count(outline)):
            return None
        return spans.emit(self._tracer, record, outline, attributes)

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
        return {"span": self._traces.dropped, "log": self._logs.dropped}

    def close(self, timeout: float) -> None:
        """Send what waits, for three quarters of `timeout` seconds; then interrupt, and leave what still hangs to the process's end."""
        end = time.monotonic() + timeout
        work: tuple[Callable[[], object], ...] = (
            self._tracer_provider.shutdown,
            self._logger_provider.shutdown,
            lambda: self._metrics.stop(timeout),
        )
        threads = [threading.Thread(target=task, name="postwarden-otlp-close", daemon=True) for task in work]
        for thread in threads:
            thread.start()
        _join(threads, end - timeout / 4)
        for interrupt in self._interrupts:
            interrupt()
        _join(threads, end)
        if any(thread.is_alive() for thread in threads):
            self._health.give_up()
        else:
            self._health.close()


def _join(threads: Sequence[threading.Thread], end: float) -> None:
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
