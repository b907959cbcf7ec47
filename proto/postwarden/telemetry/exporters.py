"""The SDK's OTLP exporters, each behind a count of what waits and what was lost.

The SDK's batch processors drop the oldest item of a full queue and tell nobody how many. An Outlet admits no more than fits, so that
every loss is counted; its memory is bounded by the limit whatever the endpoint does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import requests
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from postwarden.telemetry.endpoint import Endpoint
from postwarden.telemetry.health import Health

QUEUE_LIMIT = 2048  # spans or log records that wait; the SDK's default. At 2 KiB each: 4 MiB a signal


class Outlet:
    """Counts one signal's items on their way out. Thread-safe. health: of where it goes; None, nowhere: it admits nothing, and nothing
    counts as dropped."""

    def __init__(self, signal: str, health: Health | None, limit: int = QUEUE_LIMIT) -> None:
        self.signal = signal
        self.dropped = 0
        self._health = health
        self._limit = limit
        self._waiting = 0
        self._lock = threading.Lock()

    def admit(self, items: int) -> bool:
        """Whether so many may be queued; if not, they count as dropped."""
        if self._health is None:
            return False
        with self._lock:
            if self._waiting + items > self._limit:
                self.dropped += items
                return False
            self._waiting += items
            return True

    def ended(self, items: int, delivered: bool) -> None:
        """So many of the admitted were delivered, or are lost."""
        with self._lock:
            self._waiting -= items
            if not delivered:
                self.dropped += items
        if self._health is None:
            return
        if delivered:
            self._health.worked(self.signal)
        else:
            self._health.failed(self.signal, items)


class CountedSpanExporter(SpanExporter):
    """A span exporter that tells its outlet how each batch ended."""

    def __init__(self, exporter: SpanExporter, outlet: Outlet) -> None:
        self._exporter = exporter
        self._outlet = outlet

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._outlet.ended(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class CountedLogExporter(LogRecordExporter):
    """The same for log records."""

    def __init__(self, exporter: LogRecordExporter, outlet: Outlet) -> None:
        self._exporter = exporter
        self._outlet = outlet

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = LogRecordExportResult.FAILURE
        try:
            result = self._exporter.export(batch)
        finally:
            self._outlet.ended(len(batch), result is LogRecordExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK left its base class untyped

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Session(requests.Session):
    """A redirect is a failure: the exporters follow none, and would take a proxy's 302 to its login page for a delivery."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks["response"].append(_refuse_redirect)


def _refuse_redirect(response: requests.Response, *_: object, **__: object) -> None:
    if 300 <= response.status_code < 400:
        response.close()  # nobody else has it to close
        where = response.headers.get("Location", "nowhere")
        raise requests.HTTPError(f"HTTP status {response.status_code}, redirected to {where}")


def span_exporter(endpoint: Endpoint) -> SpanExporter:
    """Headers, time-outs, compression and certificates come from the OTEL_EXPORTER_OTLP_* variables, the signal's own
    (OTEL_EXPORTER_OTLP_TRACES_HEADERS) first."""
    if endpoint.protocol == "grpc":
        return GrpcSpanExporter(endpoint=endpoint.url)
    return HttpSpanExporter(endpoint=f"{endpoint.url}{endpoint.path}", session=_Session())


def log_exporter(endpoint: Endpoint) -> LogRecordExporter:
    """As span_exporter."""
    if endpoint.protocol == "grpc":
        return GrpcLogExporter(endpoint=endpoint.url)
    return HttpLogExporter(endpoint=f"{endpoint.url}{endpoint.path}", session=_Session())


def metric_exporter(endpoint: Endpoint) -> MetricExporter:
    """As span_exporter."""
    if endpoint.protocol == "grpc":
        return GrpcMetricExporter(endpoint=endpoint.url)
    return HttpMetricExporter(endpoint=f"{endpoint.url}{endpoint.path}", session=_Session())
