"""The same metrics in Prometheus' text format, named as OpenTelemetry's rules for Prometheus render them.

`postwarden.connections` becomes `postwarden_connections_total`, the unit `s` the suffix `_seconds`, an attribute's dots underscores; the
resource is the series `target_info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from postwarden.telemetry.readings import Kind, Metric, Reading

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_UNITS = {"s": "seconds"}


def family_name(metric: Metric) -> str:
    """The name without a counter's `_total` and a histogram's `_bucket`, `_sum`, `_count`."""
    base = metric.name.replace(".", "_")
    unit = _UNITS.get(metric.unit)
    return f"{base}_{unit}" if unit else base


def series_name(metric: Metric) -> str:
    """The name to ask Prometheus for."""
    return (
        family_name(metric) + {Kind.COUNTER: "_total", Kind.LEVEL: "", Kind.HISTOGRAM: "_bucket"}[metric.kind]
    )


class _PageCollector(Collector):
    def __init__(self, read: Callable[[], Sequence[Reading]], resource: Mapping[str, str]) -> None:
        self._read = read
        self._resource = resource

    def collect(self) -> Iterator[Family]:
        labels = {_label(key): value for key, value in self._resource.items()}
        target = InfoMetricFamily("target", "The OpenTelemetry resource.", labels=[])
        target.add_metric([], labels)
        yield target
        for reading in self._read():
            yield _family(reading)


def _label(key: str) -> str:
    return key.replace(".", "_")


def _family(reading: Reading) -> Family:
    metric = reading.metric
    name = family_name(metric)
    labels = [_label(key) for key in metric.attributes]
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, metric.meaning, labels=labels)
        for buckets in reading.histograms:
            running = 0
            cumulative = []
            for bound, count in zip((*buckets.bounds, "+Inf"), buckets.counts, strict=True):
                running += count
                cumulative.append((str(bound), running))
            histogram.add_metric(buckets.attributes, cumulative, buckets.total)
        return histogram
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(name, metric.meaning, labels=labels)
    else:
        family = GaugeMetricFamily(name, metric.meaning, labels=labels)
    for point in reading.points:
        family.add_metric(point.attributes, point.value)
    return family


class Exposition:
    """read: gives the metrics of now. resource: the resource's attributes."""

    def __init__(self, read: Callable[[], Sequence[Reading]], resource: Mapping[str, str]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_PageCollector(read, resource))

    def text(self) -> bytes:
        """All metrics now, as CONTENT_TYPE."""
        return generate_latest(self._registry)
