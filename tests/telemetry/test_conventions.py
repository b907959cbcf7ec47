"""Names without our prefix are those of OpenTelemetry's semantic conventions, as its own package has them."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv.attributes
from opentelemetry.semconv.attributes.error_attributes import ErrorTypeValues
from opentelemetry.semconv.attributes.network_attributes import NetworkTransportValues
from postwarden.telemetry.resource import from_environment, resource
from postwarden_operator.telemetry import metrics as operator_metrics
from postwarden_sidecar.telemetry import metrics
from postwarden_sidecar.telemetry.attributes import ATTRIBUTES, ERROR_OTHER, attributes
from telemetry.samples import record

OURS = "postwarden."
UNITS = {"s", "1"}  # UCUM; and {annotations}, singular


def names(package: ModuleType) -> set[str]:
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    ]
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


STABLE = names(opentelemetry.semconv.attributes)
ALL = STABLE | names(opentelemetry.semconv._incubating.attributes)


def test_attributes_of_connections_are_stable_names_or_our_own() -> None:
    assert {each.key for each in ATTRIBUTES if not each.key.startswith(OURS)} <= STABLE
    assert ErrorTypeValues.OTHER.value == ERROR_OTHER
    assert attributes(record())["network.transport"] == NetworkTransportValues.TCP.value


def test_the_resource_has_names_of_the_conventions() -> None:
    variables = ("POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME", "CONTAINER_NAME")
    told = from_environment(dict.fromkeys(variables, "x"))
    assert len(told) == len(variables)
    assert set(resource("postwarden-sidecar", told).attributes) <= ALL


def test_metrics_have_our_prefix_and_units_of_the_conventions() -> None:
    for metric in (*metrics.METRICS, *operator_metrics.METRICS):
        assert metric.name.startswith(OURS)
        assert all(key.startswith(OURS) for key in metric.attributes)
        assert metric.unit in UNITS or (metric.unit[0], metric.unit[-1]) == ("{", "}")
        assert metric.name not in ALL
