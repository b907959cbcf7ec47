"""The SDK's OTLP exporters, by signal and protocol. Log records go to theirs as bytes (`log_wire`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import requests
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from postwarden.telemetry.endpoint import Endpoint
from postwarden.telemetry.log_wire import LogFrame


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


class LogExporter(Protocol):
    """Of log records as bytes."""

    def export(self, batch: Sequence[bytes]) -> LogRecordExportResult:
        """Send them; with further attempts, so it may take its time."""

    def shutdown(self) -> None:
        """Break off what is being sent; nothing is sent from now on."""


class _GrpcLogExporter(GrpcLogExporter):
    def __init__(self, endpoint: Endpoint, frame: LogFrame) -> None:
        super().__init__(endpoint=endpoint.url)
        self._frame = frame

    def export(self, batch: Sequence[bytes]) -> LogRecordExportResult:  # type: ignore[override]  # bytes are what we export
        return self._export(batch)  # type: ignore[arg-type]  # as above

    def _translate_data(self, data: Sequence[bytes]) -> ExportLogsServiceRequest:  # type: ignore[override]  # as above
        return self._frame.request(data)


class _HttpLogExporter(HttpLogExporter):
    def __init__(self, endpoint: Endpoint, frame: LogFrame) -> None:
        super().__init__(endpoint=f"{endpoint.url}{endpoint.path}", session=_Session())
        self._frame = frame

    def export(self, batch: Sequence[bytes]) -> LogRecordExportResult:  # type: ignore[override]  # as above
        if self._shutdown:
            return LogRecordExportResult.FAILURE
        sent = self._client.export(self._frame.request(batch).SerializeToString())
        return LogRecordExportResult.SUCCESS if sent.success else LogRecordExportResult.FAILURE


def log_exporter(endpoint: Endpoint, frame: LogFrame) -> LogExporter:
    """As span_exporter."""
    return (_GrpcLogExporter if endpoint.protocol == "grpc" else _HttpLogExporter)(endpoint, frame)


def metric_exporter(endpoint: Endpoint) -> MetricExporter:
    """As span_exporter."""
    if endpoint.protocol == "grpc":
        return GrpcMetricExporter(endpoint=endpoint.url)
    return HttpMetricExporter(endpoint=f"{endpoint.url}{endpoint.path}", session=_Session())
