"""The OpenTelemetry resource: which sidecar, or which operator, speaks."""

from __future__ import annotations

import importlib.metadata
import uuid
from collections.abc import Mapping

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

# Set by the injected container from the downward API.
_KUBERNETES = {
    "POD_NAME": "k8s.pod.name",
    "POD_NAMESPACE": "k8s.namespace.name",
    "POD_UID": "k8s.pod.uid",
    "NODE_NAME": "k8s.node.name",
    "CONTAINER_NAME": "k8s.container.name",
}


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The k8s.* attributes that the environment tells: POD_NAME, POD_NAMESPACE, POD_UID, NODE_NAME, CONTAINER_NAME."""
    return {key: environ[variable] for variable, key in _KUBERNETES.items() if environ.get(variable)}


def resource(service_name: str, attributes: Mapping[str, str]) -> Resource:
    """attributes: besides the service's. service.instance.id keeps the cumulative metrics of two processes apart: a random one for
    each start, unless given. What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say goes before all."""
    service = {
        "service.name": service_name,
        "service.version": importlib.metadata.version("postwarden"),
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create({**service, **attributes, **OTELResourceDetector().detect().attributes})
