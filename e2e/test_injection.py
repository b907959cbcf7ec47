"""Pods come out of the real API server injected: the webhook is the operator's own, its CA too."""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest
from harness.cluster import ApiServer, wait_for
from harness.injecting_operator import CONTROL, IMAGE, InjectingOperator, webhook_configuration

INJECTED = {"postwarden.dev/inject": "true"}
_numbers = count(1)


@pytest.fixture(scope="module")
def injecting(api_server: ApiServer) -> Iterator[InjectingOperator]:
    with InjectingOperator(api_server, secret="injection-ca") as operator:
        api_server.apply(webhook_configuration(operator.webhook_port))
        wait_for(lambda: operator.trusted == operator.ca_pem, what="the webhook's caBundle")
        yield operator
        api_server.kubectl("delete", "mutatingwebhookconfiguration", "postwarden")


def enabled_namespace(api_server: ApiServer, **labels: str) -> str:
    name = f"inject-{next(_numbers)}"
    further = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
    api_server.create_namespace(name, {"postwarden.dev/injection": "enabled", **further})
    return name


def postfix(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "mta", "image": "postfix", "ports": [{"name": "smtp", "containerPort": 25}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": INJECTED},
        "spec": {"containers": [container], **spec},
    }


def created(api_server: ApiServer, pod: Mapping[str, Any], namespace: str, *options: str) -> dict[str, Any]:
    answer = api_server.kubectl(
        *("create", "--filename=-", f"--namespace={namespace}", "--output=json", *options),
        stdin=json.dumps(pod),
    )
    stored: dict[str, Any] = json.loads(answer)
    return stored


def sidecar_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = [each for each in pod["spec"].get("initContainers", ()) if each["name"] == "postwarden-sidecar"]
    return found[0] if found else None


def test_pod_comes_out_with_a_sidecar_that_has_the_mtas_port_name(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    pod = created(api_server, postfix("mta"), enabled_namespace(api_server))
    sidecar = sidecar_of(pod)
    assert sidecar is not None
    assert sidecar["image"] == IMAGE
    assert sidecar["ports"] == [{"name": "smtp", "containerPort": 10025, "protocol": "TCP"}]
    assert pod["spec"]["containers"][0]["ports"] == [
        {"name": "smtp-upstream", "containerPort": 25, "protocol": "TCP"}
    ]
    environment = {each["name"]: each.get("value") for each in sidecar["env"]}
    assert environment["POSTWARDEN_CONTROL"] == CONTROL
    assert environment["POSTWARDEN_CA"] == injecting.ca_pem.decode()
