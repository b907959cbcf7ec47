"""Series have the names that OpenTelemetry's rules for Prometheus give them, so that a dashboard works on what came by OTLP, too."""

from __future__ import annotations

import re

import pytest
from postwarden.telemetry.prometheus import family_name
from postwarden.telemetry.readings import Kind, Metric
from postwarden_operator.telemetry.metrics import METRICS as OPERATOR_METRICS
from postwarden_sidecar.telemetry.metrics import METRICS as SIDECAR_METRICS

UNITS = {"s": "seconds", "By": "bytes"}


def translated(metric: Metric) -> str:
    """As the collector's exporter and Prometheus' OTLP receiver name it: the unit unless it is in braces, then the type."""
    words = [re.sub(r"\W", "_", metric.name)]
    unit = re.sub(r"\{.*?\}", "", metric.unit)
    if unit == "1":
        words += ["ratio"] if metric.kind is Kind.LEVEL else []
    elif unit:
        words.append(UNITS[unit])
    return "_".join([*words, "total"] if metric.kind is Kind.COUNTER else words)


@pytest.mark.parametrize("metric", [*SIDECAR_METRICS, *OPERATOR_METRICS], ids=lambda metric: str(metric.name))
def test_a_series_is_named_as_the_translation_names_it(metric: Metric) -> None:
    ours = family_name(metric) + ("_total" if metric.kind is Kind.COUNTER else "")
    assert ours == translated(metric)
    assert re.fullmatch(r"[a-z_]+", ours)
