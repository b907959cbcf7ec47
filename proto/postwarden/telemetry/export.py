"""Spans and metrics on their way to an OTLP endpoint.

The SDK's exporters do the sending, on threads of ours; no provider is made global. Everything that waits is bounded by an Outlet, and an
endpoint that is down costs its memory and nothing else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from postwarden.telemetry import exporters
from postwarden.telemetry.endpoint import Endpoint, Signal
from postwarden.telemetry.health import Health
from postwarden.telemetry.otlp_metrics import INTERVAL, MetricsThread, metrics_data
from postwarden.telemetry.outlet import Item, Outlet, batch_delays
from postwarden.telemetry.readings import Reading


class _ToOutlet(SpanProcessor):
    """Spans that a tracer makes: each was admitted before it began."""

    def __init__(self, outlet: Outlet[ReadableSpan]) -> None:
        self._outlet = outlet

    def on_end(self, span: ReadableSpan) -> None:
        self._outlet.queue(lambda: (span,), 1)


class Export:
    """endpoints: by signal; logs are sent by who has some. scope: the name of the instrumentation. read: the metrics of now. clock:
    seconds, never going back. metrics_interval: seconds. Raises what the exporters raise for settings that can't be
    (OTEL_EXPORTER_OTLP_* variables), and ValueError for a batch's delay that can't be."""

    def __init__(
        self,
        endpoints: Mapping[Signal, Endpoint],
        resource: Resource,
        scope: str,
        read: Callable[[], Sequence[Reading]],
        *,
        clock: Callable[[], float] = time.monotonic,
        metrics_interval: float = INTERVAL,
    ) -> None:
        self._healths: dict[str, Health] = {}
        self._shutdowns: list[Callable[[float], object]] = []
        # What interrupts an exporter that waits for its endpoint.
        self._interrupts: list[Callable[[], object]] = []
        spans_to, metrics_to = endpoints.get("traces"), endpoints.get("metrics")
        # All settings before any thread: those that can't be are refused.
        self._delays = batch_delays(os.environ)
        span_exporter = exporters.span_exporter(spans_to) if spans_to is not None else None
        metric_exporter = exporters.metric_exporter(metrics_to) if metrics_to is not None else None
        self.traces: Outlet[ReadableSpan] = self.outlet(
            "traces",
            spans_to,
            None
            if span_exporter is None
            else lambda spans: span_exporter.export(spans) is SpanExportResult.SUCCESS,
            clock,
        )
        self._tracer_provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._tracer_provider.add_span_processor(_ToOutlet(self.traces))
        if span_exporter is not None:
            self._interrupts.append(span_exporter.shutdown)
        self.tracer = self._tracer_provider.get_tracer(scope)

        start = time.time_ns()
        instrumentation = InstrumentationScope(scope)

        def collect() -> MetricsData:
            return metrics_data(read(), resource, instrumentation, start, time.time_ns())

        if metrics_to is not None and metric_exporter is not None:
            health = self._health("metrics", metrics_to, clock)
            metrics = MetricsThread(metric_exporter, collect, health, metrics_interval)
            self._shutdowns.append(metrics.stop)
            self._interrupts += [metrics.abandon, metric_exporter.shutdown]

    def outlet(
        self,
        signal: Signal,
        endpoint: Endpoint | None,
        send: Callable[[Sequence[Item]], bool] | None,
        clock: Callable[[], float],
    ) -> Outlet[Item]:
        """It ends with the others. One that admits nothing where there is no endpoint."""
        if endpoint is None or send is None:
            return Outlet(signal, None, None)
        outlet = Outlet(signal, send, self._health(signal, endpoint, clock), delay=self._delays[signal])
        self._shutdowns.append(outlet.stop)
        return outlet

    def _health(self, signal: Signal, endpoint: Endpoint, clock: Callable[[], float]) -> Health:
        """Signals that go to the same place have one in common."""
        health = self._healths.get(endpoint.url)
        if health is None:
            health = self._healths[endpoint.url] = Health.of(endpoint.url, clock)
        health.named(signal, endpoint.source)
        return health

    def interrupt(self, waiting: Callable[[], object]) -> None:
        """One more exporter that may wait for its endpoint when all is to end."""
        self._interrupts.append(waiting)

    def close(self, timeout: float) -> None:
        """Send what waits, for three quarters of `timeout` seconds; then interrupt, and leave what still hangs to the process's end."""
        end = time.monotonic() + timeout
        threads = [
            threading.Thread(target=task, args=(timeout,), name="postwarden-otlp-close", daemon=True)
            for task in self._shutdowns
        ]
        for thread in threads:
            thread.start()
        _join(threads, end - timeout / 4)
        for interrupt in self._interrupts:
            interrupt()
        _join(threads, end)
        hangs = any(thread.is_alive() for thread in threads)
        for health in self._healths.values():
            if hangs:
                health.give_up()
            else:
                health.close()


def _join(threads: Sequence[threading.Thread], end: float) -> None:
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
