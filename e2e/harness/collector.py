"""An OpenTelemetry collector: OTLP in by gRPC and HTTP, traces on to Jaeger, and all that came in a file.

Contract: `with OtelCollector(directory, jaeger.grpc_address) as collector:` listens at `grpc_url` and `http_url`, the standard ports 4317
and 4318 of an address of its own, so that a sender which tells the protocols apart by them can be seen to. A killed one can be started
again at the same place. Built from e2e/tools/collector, once.
"""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pytest

from harness.cluster_process import started
from harness.jaeger import Jaeger
from harness.postfix_fixtures import progress_seen
from harness.toolchain import TOOLS_MODULE, GoModule, built

COLLECTOR = GoModule(TOOLS_MODULE / "collector", {"otelcol": "."})

GRPC_PORT, HTTP_PORT = 4317, 4318
"""Of OTLP (OpenTelemetry's specification of the OTLP exporter)."""

START_TIMEOUT = 20.0
"""Seconds until it listens; half of one is usual."""

# HTTP that is not compressed is refused, so what came by HTTP was.
CONFIGURATION = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "{host}:{grpc}"}}
      http: {{endpoint: "{host}:{http}", compression_algorithms: [gzip]}}
exporters:
  otlp: {{endpoint: "{jaeger}", tls: {{insecure: true}}}}
  file: {{path: "{file}", flush_interval: 100ms}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp, file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
"""

Signal = Literal["resourceSpans", "resourceMetrics", "resourceLogs"]


class OtelCollector:
    """directory: for its files. jaeger: HOST:PORT where Jaeger takes OTLP by gRPC."""

    def __init__(self, directory: Path, jaeger: str) -> None:
        self._directory = directory
        self._starts = 0
        # An address that no other test run on this machine has, for the ports are what everybody's are.
        self._host = "127.43.{}.{}".format(*divmod(os.getpid() % 65536, 256))
        self.grpc_url, self.http_url = (f"http://{self._host}:{port}" for port in (GRPC_PORT, HTTP_PORT))
        self._jaeger = jaeger

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Raises TimeoutError with the end of its log."""
        program = built(COLLECTOR) / "otelcol"
        # A file for each start: a killed one leaves half a line.
        self._starts += 1
        file = self._directory / f"received{self._starts}.json"
        configuration = self._directory / "collector.yaml"
        configuration.write_text(
            CONFIGURATION.format(
                host=self._host, grpc=GRPC_PORT, http=HTTP_PORT, jaeger=self._jaeger, file=file
            )
        )
        command: list[str | Path] = [program, f"--config=file:{configuration}"]
        self._process = started(
            command,
            self._directory / "collector.log",
            {"PATH": "/usr/bin:/bin"},
            self._listens,
            START_TIMEOUT,
        )

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def received(self, signal: Signal) -> list[dict[str, Any]]:
        """What came, over all starts, as OTLP's JSON: a document for each resource and export."""
        files = [self._directory / f"received{start + 1}.json" for start in range(self._starts)]
        # A last line without its end is still being written.
        lines = [line for file in files if file.exists() for line in file.read_text().split("\n")[:-1]]
        return [resource for line in lines for resource in json.loads(line).get(signal, ())]

    def _listens(self) -> bool:
        try:
            for port in (GRPC_PORT, HTTP_PORT):
                socket.create_connection((self._host, port), 1.0).close()
        except OSError:
            return False
        return True


def plain(attributes: list[dict[str, Any]]) -> dict[str, str]:
    """Attributes in OTLP's JSON as a dict; numbers as text, as they come there."""
    return {each["key"]: str(next(iter(each["value"].values()))) for each in attributes}


@pytest.fixture
def otel_collector(pytestconfig: pytest.Config, jaeger: Jaeger, tmp_path: Path) -> Iterator[OtelCollector]:
    """In front of Jaeger."""
    with progress_seen(pytestconfig):
        built(COLLECTOR)
    with OtelCollector(tmp_path, jaeger.grpc_address) as running:
        yield running
