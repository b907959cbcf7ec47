"""The supervisor's one entry to telemetry: records in; log lines, spans, log records and metrics out.

`observe` only queues: rendering and writing happen on a thread of their own, so that a log stream or a collector that blocks never
holds up the supervisor's loop. Everything is bounded; what does not fit is dropped and counted in `postwarden.telemetry.dropped`.
A worker never imports this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO, Literal

from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.ipc.page import Page

LogFormatName = Literal["JSON", "Postscreen", "PostscreenLegacy", "pretty"]  # a rules.settings.LogFormat is one of these, too
OtlpProtocol = Literal["grpc", "http/protobuf"]

PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Verdicts as traces, metrics and logs.

    page: the shared page that metrics are read from. resource: attributes of the OpenTelemetry resource besides service.name and
    service.version, such as k8s.pod.name (see `resource.from_environment`). log_stream: an open binary stream, stdout or stderr; None: no log lines.
    hostname, pid: as shown in Postscreen lines. otlp_endpoint: `http://HOST:PORT` or https; None: no OTLP. otlp_protocol: None chooses
    by OTEL_EXPORTER_OTLP_PROTOCOL, else by the endpoint (port 4318 or a path: http/protobuf; otherwise grpc).

    An endpoint that is malformed or down is warned of (logger `postwarden_sidecar.telemetry`) and never raises.
    """

    def __init__(
        self,
        *,
        page: Page,
        log_format: LogFormatName,
        log_stream: BinaryIO | None,
        hostname: str,
        pid: int,
        resource: Mapping[str, str] | None = None,
        otlp_endpoint: str | None = None,
        otlp_protocol: OtlpProtocol | None = None,
    ) -> None:
        raise NotImplementedError

    def observe(self, records: Sequence[Record]) -> None:
        """Take records that came from workers. Returns at once; never raises."""
        raise NotImplementedError

    def set_log_format(self, log_format: LogFormatName) -> None:
        """Log lines of records observed from now on have this format."""
        raise NotImplementedError

    def prometheus(self) -> bytes:
        """The metrics in Prometheus' text format; serve them as PROMETHEUS_CONTENT_TYPE."""
        raise NotImplementedError

    async def close(self, timeout: float = 5.0) -> None:
        """Write and send what is queued, for `timeout` seconds at most, and end all threads that can be ended. Safe to call twice."""
        raise NotImplementedError
