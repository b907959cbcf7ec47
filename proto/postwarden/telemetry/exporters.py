"""The SDK's OTLP exporters, by signal and protocol."""

from __future__ import annotations

import requests
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

from postwarden.telemetry.endpoint import Endpoint


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
