"""Spans and metrics on their way to an OTLP endpoint.

The SDK's batch processors and exporters do the sending, on threads of their own; no provider is made global. Everything that waits is
bounded by an Outlet, and an endpoint that is down costs its memory and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from postwarden.telemetry import exporters
from postwarden.telemetry.endpoint import Endpoint, Signal
from postwarden.telemetry.health import Health
from postwarden.telemetry.otlp_metrics import INTERVAL, MetricsThread, metrics_data
from postwarden.telemetry.readings import Reading

# A request costs some 2.5 ms of CPU however little is in it (measured): each second, for spans and for log records, it was two thirds of
# all that OTLP takes under a flood. The SDK's default for spans is 5 s; whoever looks at traces has the log line at once.
BATCH_DELAY_MS = 5000
BATCH_SIZE = 512  # the SDK's default


class Export:
    """endpoints: by signal; logs are sent by who has some. scope: the name of the instrumentation. read: the metrics of now. clock:
    seconds, never going back. metrics_interval: seconds. Raises what the exporters raise for settings that can't be
    (OTEL_EXPORTER_OTLP_* variables)."""

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
        # All exporters before any thread: they refuse settings that can't be.
        span_exporter = exporters.span_exporter(spans_to) if spans_to is not None else None
        metric_exporter = exporters.metric_exporter(metrics_to) if metrics_to is not None else None
        self.traces = self.outlet("traces", spans_to, clock)
        self._tracer_provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        if span_exporter is not None:
            self._tracer_provider.add_span_processor(
                BatchSpanProcessor(
                    exporters.CountedSpanExporter(span_exporter, self.traces),
                    max_queue_size=exporters.QUEUE_LIMIT,
                    schedule_delay_millis=BATCH_DELAY_MS,
                    max_export_batch_size=BATCH_SIZE,
                )
            )
            self.also(self._tracer_provider.shutdown, span_exporter.shutdown)
        self.tracer = self._tracer_provider.get_tracer(scope)

        start = time.time_ns()
        instrumentation = InstrumentationScope(scope)

        def collect() -> MetricsData:
            return metrics_data(read(), resource, instrumentation, start, time.time_ns())

        if metrics_to is not None and metric_exporter is not None:
            health = self._health(metrics_to, clock)
            metrics = MetricsThread(metric_exporter, collect, health, metrics_interval)
            self._shutdowns.append(metrics.stop)
            self._interrupts += [metrics.abandon, metric_exporter.shutdown]

    def outlet(
        self, signal: Signal, endpoint: Endpoint | None, clock: Callable[[], float]
    ) -> exporters.Outlet:
        """One that admits nothing where there is no endpoint."""
        if endpoint is None:
            return exporters.Outlet(signal, None)
        return exporters.Outlet(signal, self._health(endpoint, clock))

    def _health(self, endpoint: Endpoint, clock: Callable[[], float]) -> Health:
        """Signals that go to the same place have one in common."""
        health = self._healths.get(endpoint.url)
        if health is None:
            health = self._healths[endpoint.url] = Health.of(endpoint.url, clock)
        return health

    def also(self, shutdown: Callable[[], object], interrupt: Callable[[], object]) -> None:
        """One more signal that is to end with the others."""
        self._shutdowns.append(lambda timeout: shutdown())
        self._interrupts.append(interrupt)

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
