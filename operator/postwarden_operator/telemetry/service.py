"""The operator's telemetry as a whole: traces and metrics by OTLP, metrics at a Prometheus endpoint.

Contract: an OTLP endpoint that is malformed or down is warned of and stops nothing. `start`, then `stop`.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from postwarden.telemetry.endpoint import wanted_endpoints
from postwarden.telemetry.export import Export
from postwarden.telemetry.otlp_metrics import INTERVAL
from postwarden.telemetry.prometheus import CONTENT_TYPE, Exposition
from postwarden.telemetry.readings import Reading
from postwarden.telemetry.resource import from_environment, resource

from postwarden_operator.telemetry.metrics import OperatorMetrics, ReplicaState
from postwarden_operator.telemetry.policy_changes import PolicyChanges

SERVICE_NAME = "postwarden-operator"
SCOPE = "postwarden_operator.telemetry"

CLOSE_TIMEOUT = 3.0
"""Seconds in which the last spans are to be sent when the operator ends."""

_log = logging.getLogger(__name__)


class MetricsUnservable(Exception):
    """The address of --metrics can't be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """otlp_endpoint: URL, None: as OTEL_EXPORTER_OTLP_ENDPOINT says, else none; signals may have their own
    (`endpoint.wanted_endpoints`). metrics: host and port, None: not served."""

    otlp_endpoint: str | None = None
    metrics: tuple[str, int] | None = None


NO_TELEMETRY = TelemetrySettings()


class Telemetry:
    """changes: who is to be told of what happens. state: called for metrics, by any thread."""

    def __init__(
        self,
        settings: TelemetrySettings,
        environ: Mapping[str, str] = os.environ,
        metrics_interval: float = INTERVAL,
        state: Callable[[], ReplicaState] = ReplicaState,
    ) -> None:
        self._settings = settings
        self._metrics = OperatorMetrics()
        self._state = state
        self._export: Export | None = None
        self._runner: web.AppRunner | None = None
        found = resource(SERVICE_NAME, from_environment(environ))
        try:
            endpoints = wanted_endpoints(settings.otlp_endpoint, None, environ)
            if endpoints.keys() & {"traces", "metrics"}:
                self._export = Export(endpoints, found, SCOPE, self._read, metrics_interval=metrics_interval)
        except Exception as error:  # the SDK reads variables of its own and raises what it likes
            _log.warning("no OTLP: %s", error)
        shown = {key: str(value) for key, value in found.attributes.items()}
        self._exposition = Exposition(self._read, shown)
        self.changes = PolicyChanges(self._metrics)
        if self._export is not None:
            self.changes = PolicyChanges(self._metrics, self._export.tracer, self._export.traces.admit)

    def _read(self) -> list[Reading]:
        dropped = {"span": self._export.traces.dropped if self._export is not None else 0}
        return self._metrics.read(dropped, self._state())

    async def start(self) -> None:
        """Serve /metrics. Raises MetricsUnservable."""
        if self._settings.metrics is None:
            return
        application = web.Application()
        application.router.add_get("/metrics", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._settings.metrics
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise MetricsUnservable(f"cannot serve metrics on {host}:{port}: {error.strerror}") from error

    async def stop(self) -> None:
        """Send what waits, for a bounded time."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._export is not None:
            await asyncio.to_thread(self._export.close, CLOSE_TIMEOUT)

    async def _serve(self, request: web.Request) -> web.Response:
        return web.Response(body=self._exposition.text(), headers={"Content-Type": CONTENT_TYPE})
