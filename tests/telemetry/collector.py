"""A real OTLP receiver in this process, over gRPC and over HTTP, that keeps what it gets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc
from aiohttp import web
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

    def latest_metrics(self) -> dict[str, Metric]:
        (resource,) = self.metrics[-1].resource_metrics
        (scope,) = resource.scope_metrics
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
    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self.collector.traces.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self.collector.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self.collector.logs.append(request)
        return logs_service_pb2.ExportLogsServiceResponse()


@contextlib.contextmanager
def grpc_collector() -> Iterator[Collector]:
    """Listens on a free port of loopback."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=3))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(collector), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.url = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(0).wait()


@contextlib.asynccontextmanager
async def http_collector() -> AsyncIterator[Collector]:
    """Listens on a free port of loopback, below the path /otlp."""
    collector = Collector()

    async def traces(request: web.Request) -> web.Response:
        collector.traces.append(trace_service_pb2.ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    async def metrics(request: web.Request) -> web.Response:
        collector.metrics.append(
            metrics_service_pb2.ExportMetricsServiceRequest.FromString(await request.read())
        )
        return web.Response(content_type="application/x-protobuf")

    async def logs(request: web.Request) -> web.Response:
        collector.logs.append(logs_service_pb2.ExportLogsServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/otlp/v1/traces", traces)
    app.router.add_post("/otlp/v1/metrics", metrics)
    app.router.add_post("/otlp/v1/logs", logs)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    collector.url = f"http://127.0.0.1:{port}/otlp"
    try:
        yield collector
    finally:
        await runner.cleanup()
