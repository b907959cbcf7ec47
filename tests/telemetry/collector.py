"""A real OTLP receiver in this process, over gRPC and over HTTP, that keeps what it gets."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http import HTTPStatus
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def plain(attributes: Any) -> dict[str, str | int]:
    """Attributes as a dict."""

    def value(item: KeyValue) -> str | int:
        kind = item.value.WhichOneof("value")
        return item.value.int_value if kind == "int_value" else item.value.string_value

    return {item.key: value(item) for item in attributes}


Abort = Callable[[grpc.ServicerContext], None]


def take(context: grpc.ServicerContext) -> None:
    """What comes."""


class Collector:
    """What was received."""

    def __init__(self) -> None:
        self.url = ""
        self.traces: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.metrics: list[metrics_service_pb2.ExportMetricsServiceRequest] = []
        self.logs: list[logs_service_pb2.ExportLogsServiceRequest] = []

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def log_records(self) -> list[LogRecord]:
        return [
            record
            for request in self.logs
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def latest_metrics(self, service: str = "postwarden-sidecar") -> dict[str, Metric]:
        """By name, of a service."""
        of_service = [
            resource
            for request in self.metrics
            for resource in request.resource_metrics
            if plain(resource.resource.attributes)["service.name"] == service
        ]
        (scope,) = of_service[-1].scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def resources(self) -> list[dict[str, str | int]]:
        return [
            *(
                plain(found.resource.attributes)
                for request in self.traces
                for found in request.resource_spans
            ),
            *(
                plain(found.resource.attributes)
                for request in self.metrics
                for found in request.resource_metrics
            ),
            *(plain(found.resource.attributes) for request in self.logs for found in request.resource_logs),
        ]


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector, answer: Abort) -> None:
        self.collector, self.answer = collector, answer

    def Export(self, request: Any, context: Any) -> Any:
        self.answer(context)
        self.collector.traces.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector, answer: Abort) -> None:
        self.collector, self.answer = collector, answer

    def Export(self, request: Any, context: Any) -> Any:
        self.answer(context)
        self.collector.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, collector: Collector, answer: Abort) -> None:
        self.collector, self.answer = collector, answer

    def Export(self, request: Any, context: Any) -> Any:
        self.answer(context)
        self.collector.logs.append(request)
        return logs_service_pb2.ExportLogsServiceResponse()


@contextlib.contextmanager
def grpc_collector(
    answer: Abort = take, credentials: grpc.ServerCredentials | None = None
) -> Iterator[Collector]:
    """Listens on a free port of loopback. answer: may wait, or abort the call."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=3))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector, answer), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector, answer), server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(collector, answer), server)  # type: ignore[no-untyped-call]
    scheme, port = "http", 0
    if credentials is not None:
        scheme, port = "https", server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.url = f"{scheme}://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(0).wait()


@contextlib.contextmanager
def http_collector(answer: Callable[[], int] = lambda: HTTPStatus.OK) -> Iterator[Collector]:
    """Listens on a free port of loopback, below the path /otlp. answer: the status; what it is not 200 for is not kept."""
    collector = Collector()
    signals: dict[str, tuple[type[Any], list[Any]]] = {
        "/otlp/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, collector.traces),
        "/otlp/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, collector.metrics),
        "/otlp/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, collector.logs),
    }

    class Receiver(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind, kept = signals[self.path]
            status = answer()
            if status == HTTPStatus.OK:
                kept.append(kind.FromString(body))
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_address[1]}/otlp"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
