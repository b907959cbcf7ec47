"""Spans and metrics on their way to an OTLP endpoint.

The SDK's batch processors and exporters do the sending, on threads of their own; no provider is made global. Everything that waits is
bounded by an Outlet, and an endpoint that is down costs its memory and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from postwarden.telemetry import exporters
from postwarden.telemetry.endpoint import Endpoint
from postwarden.telemetry.health import Health
from postwarden.telemetry.otlp_metrics import INTERVAL, MetricsThread, metrics_data
from postwarden.telemetry.readings import Reading

BATCH_DELAY_MS = 1000  # a verdict is to be seen soon; the SDK's default for spans is 5 s
BATCH_SIZE = 512  # the SDK's default


class Export:
    """scope: the name of the instrumentation. read: the metrics of now. clock: seconds, never going back. metrics_interval: seconds. Raises
    what the exporters raise for settings that can't be (OTEL_EXPORTER_OTLP_* variables)."""

    def __init__(
        self,
        endpoint: Endpoint,
        resource: Resource,
        scope: str,
        read: Callable[[], Sequence[Reading]],
        *,
        clock: Callable[[], float] = time.monotonic,
        metrics_interval: float = INTERVAL,
    ) -> None:
        span_exporter = exporters.span_exporter(endpoint)
        metric_exporter = exporters.metric_exporter(endpoint)
        self.health = Health.of(endpoint.url, clock)
        self.traces = exporters.Outlet("traces", self.health, wanted="traces" not in endpoint.unwanted)
        self._tracer_provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._tracer_provider.add_span_processor(
            BatchSpanProcessor(
                exporters.CountedSpanExporter(span_exporter, self.traces),
                max_queue_size=exporters.QUEUE_LIMIT,
                schedule_delay_millis=BATCH_DELAY_MS,
                max_export_batch_size=BATCH_SIZE,
            )
        )
        self.tracer = self._tracer_provider.get_tracer(scope)

        start = time.time_ns()
        instrumentation = InstrumentationScope(scope)

        def collect() -> MetricsData:
            return metrics_data(read(), resource, instrumentation, start, time.time_ns())

        self._shutdowns: list[Callable[[float], object]] = [lambda timeout: self._tracer_provider.shutdown()]
        # What interrupts an exporter that waits for its endpoint.
        self._interrupts: list[Callable[[], object]] = [span_exporter.shutdown]
        if "metrics" not in endpoint.unwanted:
            metrics = MetricsThread(metric_exporter, collect, self.health, metrics_interval)
            self._shutdowns.append(metrics.stop)
            self._interrupts += [metrics.abandon, metric_exporter.shutdown]

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
        if any(thread.is_alive() for thread in threads):
            self.health.give_up()
        else:
            self.health.close()


def _join(threads: Sequence[threading.Thread], end: float) -> None:
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
