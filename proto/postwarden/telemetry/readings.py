"""Metrics and their values, as OTLP and Prometheus are both made from them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """counter: only grows. level: of now. histogram: counts by size."""

    COUNTER = "counter"
    LEVEL = "level"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """unit: UCUM; braces name what is counted and are no unit."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """attributes: the values of the metric's attributes, in their order; empty: does not apply."""

    attributes: tuple[str, ...]
    value: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """counts: one more than bounds, not cumulative. total: the sum of all values, in the metric's unit. attributes: as a Point's."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of a metric: points, or a histogram's, one for each combination of attributes."""

    metric: Metric
    points: tuple[Point, ...] = ()
    histograms: tuple[Buckets, ...] = ()
