"""Readings as OTLP metrics, sent from time to time by a thread of its own.

The SDK's meters are not used: their counters would have to be fed from the page, while the data points can be written from it as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from postwarden.telemetry.health import Health
from postwarden.telemetry.readings import Buckets, Kind, Point, Reading

INTERVAL = 15.0  # seconds between two exports: a scrape's usual pace; the SDK's 60 s is long for who watches an attack


def metrics_data(
    readings: Sequence[Reading], resource: Resource, scope: InstrumentationScope, start: int, now: int
) -> MetricsData:
    """start, now: epoch nanoseconds; all values are cumulative since start."""
    metrics = [_metric(reading, start, now) for reading in readings]
    scope_metrics = ScopeMetrics(scope, metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource, [scope_metrics], schema_url="")])


def _metric(reading: Reading, start: int, now: int) -> OtlpMetric:
    metric = reading.metric
    data: Histogram | Sum
    if metric.kind is Kind.HISTOGRAM:
        histograms = [_histogram(metric.attributes, buckets, start, now) for buckets in reading.histograms]
        data = Histogram(histograms, AggregationTemporality.CUMULATIVE)
    else:
        points = [_number(metric.attributes, point, start, now) for point in reading.points]
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=metric.kind is Kind.COUNTER)
    return OtlpMetric(metric.name, metric.meaning, metric.unit, data)


def _number(keys: tuple[str, ...], point: Point, start: int, now: int) -> NumberDataPoint:
    attributes = {key: value for key, value in zip(keys, point.attributes, strict=True) if value}
    return NumberDataPoint(attributes, start, now, point.value)


def _histogram(keys: tuple[str, ...], buckets: Buckets, start: int, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=dict(zip(keys, buckets.attributes, strict=True)),
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(buckets.counts),
        sum=buckets.total,
        bucket_counts=buckets.counts,
        explicit_bounds=buckets.bounds,
        min=None,  # type: ignore[arg-type]  # optional on the wire; the page does not keep it
        max=None,  # type: ignore[arg-type]
    )


class MetricsThread:
    """Sends what `collect` gives, every INTERVAL and once more at the end. One data point is kept in memory: the next is newer."""

    def __init__(
        self,
        exporter: MetricExporter,
        collect: Callable[[], MetricsData],
        health: Health,
        interval: float = INTERVAL,
    ) -> None:
        self._exporter = exporter
        self._collect = collect
        self._health = health
        self._interval = interval
        self._stop = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="postwarden-otlp-metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._export()
        if not self._abandoned:
            self._export()

    def _export(self) -> None:
        # Nothing is lost by a failure, for values are cumulative: no item counts as dropped.
        try:
            delivered = self._exporter.export(self._collect()) is MetricExportResult.SUCCESS
        except Exception as error:  # an exporter raises what it likes; the next export may arrive
            self._health.failed("metrics", 0, f"{type(error).__name__}: {error}")
            return
        if delivered:
            self._health.worked("metrics")
        else:
            self._health.failed("metrics", 0)

    def stop(self, timeout: float) -> None:
        """Export once more and end, waiting for so many seconds at most."""
        self._stop.set()
        self._thread.join(timeout)

    def abandon(self) -> None:
        """Read no more metrics: the page may be gone soon."""
        self._abandoned = True
