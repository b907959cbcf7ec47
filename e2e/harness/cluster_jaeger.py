"""A Jaeger in a real cluster: a Deployment and a Service, asked through the API server.

Contract: `ClusterJaeger(cluster)` is deployed by `deploy` and then answers as harness.jaeger's. Sidecars and the operator send to
`ENDPOINT`.
"""

import urllib.parse
from collections.abc import Mapping
from typing import Any

from harness.cluster_client import ApiError, ClusterClient, wait_for
from harness.images import Image, binary_image
from harness.jaeger import CONFIGURATION, JAEGER, MOST_TRACES, Jaeger
from harness.toolchain import built

NAMESPACE = "tracing"
ENDPOINT = f"http://jaeger.{NAMESPACE}.svc:4317"
QUERY_PORT = 16686

START_TIMEOUT = 60.0
"""Seconds until it answers; three are usual."""


def jaeger_image() -> Image:
    """Its static binary and nothing else."""
    return binary_image("jaeger", built(JAEGER) / "jaeger", key=JAEGER.key())


class ClusterJaeger(Jaeger):
    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster

    def deploy(self) -> None:
        """Raises TimeoutError with what its pod says."""
        self._cluster.apply(*_manifests())
        try:
            wait_for(self._is_there, START_TIMEOUT, "Jaeger")
        except TimeoutError as error:
            told = self._cluster.kubectl("describe", "pods", f"--namespace={NAMESPACE}")
            raise TimeoutError(f"{error}\n{told[-3000:]}") from error

    def _is_there(self) -> bool:
        try:
            self._ask("/api/services", {})
        except OSError:
            return False
        return True

    def _ask(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        proxy = f"/api/v1/namespaces/{NAMESPACE}/services/jaeger:{QUERY_PORT}/proxy"
        try:
            return self._cluster.request("GET", f"{proxy}{path}?{urllib.parse.urlencode(parameters)}")
        except ApiError as error:
            raise OSError(str(error)) from error


def _manifests() -> list[dict[str, Any]]:
    configuration = CONFIGURATION.format(
        most=MOST_TRACES, query=QUERY_PORT, query_grpc=16685, grpc=4317, http=4318
    ).replace("127.0.0.1", "0.0.0.0")
    labels = {"app": "jaeger"}
    container = {
        "name": "jaeger",
        "image": "localhost/jaeger:test",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config=file:/etc/jaeger/jaeger.yaml"],
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/jaeger"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "configuration", "configMap": {"name": "jaeger"}}]}

    def named(kind: str, version: str, **fields: Any) -> dict[str, Any]:
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": "jaeger", "namespace": NAMESPACE},
            **fields,
        }

    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        named("ConfigMap", "v1", data={"jaeger.yaml": configuration}),
        named(
            "Deployment",
            "apps/v1",
            spec={
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        ),
        named(
            "Service",
            "v1",
            spec={
                "selector": labels,
                "ports": [{"name": "otlp", "port": 4317}, {"name": "query", "port": QUERY_PORT}],
            },
        ),
    ]
