"""Pods come out of the real API server injected: the webhook is the operator's own, its CA too."""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from harness.chart import documents
from harness.cluster import ApiServer, KubectlError, wait_for
from harness.injecting_operator import CONFIGURATION, CONTROL, IMAGE, InjectingOperator, webhook_configuration
from harness.operator_process import ROOT
from harness.screening_objects import policy, wait_for_reasons
from harness.sidecar_process import SidecarProcess
from inject.golden import goldens
from loopback_ports import free_ports

INJECTED = {"postwarden.dev/inject": "true"}
_numbers = count(1)


ROTATING = ("--ca-lifetime=18s", "--ca-notice=3s", "--server-lifetime=3s")
"""A new CA every twelve seconds: what is tried here, is tried while it changes."""


@pytest.fixture(scope="module")
def injecting(api_server: ApiServer) -> Iterator[InjectingOperator]:
    with InjectingOperator(api_server, secret="injection-ca", options=ROTATING) as operator:
        api_server.apply(webhook_configuration(operator.webhook_port))
        wait_for(lambda: operator.trusted == operator.ca_pem, what="the webhook's caBundle")
        yield operator
        api_server.kubectl("delete", "mutatingwebhookconfiguration", CONFIGURATION)


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
    """The stored pod; with --dry-run=server: as it would be. Raises KubectlError."""
    command = ("create", "--filename=-", f"--namespace={namespace}", "--output=json", *options)
    stored: dict[str, Any] = json.loads(api_server.kubectl(*command, stdin=json.dumps(pod)))
    return stored


def sidecars(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in pod["spec"].get("initContainers", ()) if each["name"] == "postwarden-sidecar"]


def test_pod_comes_out_with_a_sidecar_that_has_the_mtas_port_name(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    pod = created(api_server, postfix("mta"), enabled_namespace(api_server))
    (sidecar,) = sidecars(pod)
    assert sidecar["image"] == IMAGE
    assert sidecar["ports"] == [{"name": "smtp", "containerPort": 10025, "protocol": "TCP"}]
    assert pod["spec"]["containers"][0]["ports"] == [
        {"name": "smtp-upstream", "containerPort": 25, "protocol": "TCP"}
    ]
    environment = {each["name"]: each.get("value", "") for each in sidecar["env"]}
    assert environment["POSTWARDEN_CONTROL"] == CONTROL
    assert environment["POSTWARDEN_CA"].startswith("-----BEGIN CERTIFICATE-----")


def test_change_of_an_injected_pod_injects_nothing_again(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    before = created(api_server, postfix("mta"), namespace)
    api_server.kubectl("annotate", "pod", "mta", f"--namespace={namespace}", "note=changed")
    after = api_server.get("pod", "mta", namespace)
    assert after["spec"] == before["spec"]
    # What somebody saved and creates anew.
    api_server.kubectl("delete", "pod", "mta", f"--namespace={namespace}", "--now")
    saved = {**before, "metadata": {key: before["metadata"][key] for key in ("name", "labels")}}
    assert created(api_server, saved, namespace)["spec"] == before["spec"]


def test_namespace_that_is_not_enabled_and_pod_without_the_label_are_left_alone(
    api_server: ApiServer, injecting: InjectingOperator, namespace: str
) -> None:
    assert not sidecars(created(api_server, postfix("mta"), namespace))
    plain = postfix("mta")
    plain["metadata"]["labels"] = {}
    pod = created(api_server, plain, enabled_namespace(api_server))
    assert not sidecars(pod)
    assert pod["spec"]["containers"][0]["ports"][0]["name"] == "smtp"


def test_every_golden_is_what_the_api_server_makes_of_the_pod(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    for golden in goldens():
        if (refused := golden.wanted.get("refused")) is not None:
            with pytest.raises(KubectlError) as refusal:
                created(api_server, golden.pod, namespace, "--dry-run=server")
            # The API server gives every pod a volume of its own: what the pod has is not quoted.
            told = refused.replace("pod mail/", f"pod {namespace}/").partition("; it has")[0]
            assert f"denied the request: {told}" in str(refusal.value), golden.name
        else:
            pod = created(api_server, golden.pod, namespace, "--dry-run=server")
            assert len(sidecars(pod)) == len(sidecars(golden.wanted["pod"])), golden.name


def test_injected_pods_are_admitted_where_pod_security_is_restricted(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server, enforce="restricted")
    tried = 0
    for golden in goldens():
        if (
            "refused" in golden.wanted
            or "not-injected" in str(golden.wanted)
            or not may_be_restricted(golden.pod)
        ):
            continue
        pod = created(api_server, restricted(golden.pod), namespace, "--dry-run=server")
        assert len(sidecars(pod)) == 1, golden.name
        tried += 1
    assert tried >= 8


def may_be_restricted(pod: Mapping[str, Any]) -> bool:
    """A port of the node, its network, NET_ADMIN, and a probe of another host are what `restricted` forbids."""
    return not any(each in str(pod) for each in ("hostPort", "hostNetwork", "redirect", "'host':"))


def restricted(pod: Mapping[str, Any]) -> dict[str, Any]:
    """With what the pod's own containers lack."""
    hardened: dict[str, Any] = copy.deepcopy(dict(pod))
    spec = hardened["spec"]
    spec["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    return hardened


def test_refusal_and_warning_reach_whoever_creates_the_pod(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    pod = postfix("mta", containers=[{"name": "mta", "image": "postfix"}])
    with pytest.raises(KubectlError, match=r'no container has a TCP port named "smtp"'):
        created(api_server, pod, namespace)
    pod["metadata"]["annotations"] = {"postwarden.dev/on-error": "Unscreened"}
    with pytest.raises(KubectlError, match=r"Warning: pod .* starts UNSCREENED"):
        # kubectl exits with an error where there was a warning.
        created(api_server, pod, namespace, "--warnings-as-errors")
    stored = api_server.get("pod", "mta", namespace)
    assert not sidecars(stored)
    assert "named" in stored["metadata"]["annotations"]["postwarden.dev/not-injected"]


def test_webhook_that_is_down_keeps_no_pod_from_starting(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    with injecting.away():
        assert not sidecars(created(api_server, postfix("unscreened"), namespace))
    wait_for(
        lambda: sidecars(created(api_server, postfix("screened"), namespace, "--dry-run=server")),
        what="a pod to be injected again",
    )


def test_pods_are_injected_while_the_ca_changes(api_server: ApiServer, injecting: InjectingOperator) -> None:
    namespace = enabled_namespace(api_server)
    signer = injecting.secret_data()["signer.crt"]
    changed = 0
    while changed < 3:
        pod = created(api_server, postfix("mta"), namespace, "--dry-run=server")
        assert sidecars(pod)
        if injecting.secret_data()["signer.crt"] != signer:
            changed += 1  # and some more behind it
        time.sleep(0.3)
    wait_for(lambda: injecting.trusted == injecting.ca_pem, what="the webhook's caBundle")


def test_ca_bundle_that_somebody_removed_comes_back(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    patch = '[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]'
    api_server.kubectl(
        *("patch", "mutatingwebhookconfiguration", CONFIGURATION, "--type=json", f"--patch={patch}")
    )
    wait_for(lambda: injecting.trusted == injecting.ca_pem, 15, "the webhook's caBundle")


def test_policy_says_which_services_lead_past_the_sidecar(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    for name, target in (("by-name", "smtp"), ("by-number", 25)):
        ports = [{"port": 25, "targetPort": target}]
        service = {"metadata": {"name": name}, "spec": {"selector": INJECTED, "ports": ports}}
        api_server.request("POST", f"/api/v1/namespaces/{namespace}/services", service)
    pod = api_server.create_pod("mta", namespace, labels=INJECTED, spec=postfix("mta")["spec"])
    api_server.apply(policy("wall", namespace))
    wait_for_reasons(api_server, "wall", namespace, Intercepted="False/Bypassed")
    conditions = api_server.get("screeningpolicy", "wall", namespace)["status"]["conditions"]
    (told,) = [each["message"] for each in conditions if each["type"] == "Intercepted"]
    assert "Service by-number, port 25, has targetPort 25, the MTA's: write targetPort: smtp" in told
    assert "by-name" not in told
    # A pod from before the label, of the same kind.
    api_server.delete_pod(pod)
    api_server.kubectl("label", "namespace", namespace, "postwarden.dev/injection-")
    api_server.create_pod("old", namespace, labels=INJECTED, spec=postfix("old")["spec"])
    wait_for_reasons(api_server, "wall", namespace, Intercepted="False/NotInjected")


def test_sidecar_that_is_started_as_the_pod_says_gets_its_policy(
    api_server: ApiServer, injecting: InjectingOperator, tmp_path: Path
) -> None:
    """By the CA inline and the bootstrap in its environment; addresses and files are this test's."""
    namespace = enabled_namespace(api_server)
    api_server.apply(policy("wall", namespace))
    handoff = {"postwarden.dev/handoff": "Plain"}
    spec = postfix("mta")["spec"]
    pod = api_server.create_pod("mta", namespace, labels=INJECTED, annotations=handoff, spec=spec)
    (container,) = sidecars(api_server.get("pod", "mta", namespace))
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert variables["POSTWARDEN_UPSTREAM"] == "127.0.0.1:25"
    (admin,) = free_ports(1)
    variables |= {
        "POSTWARDEN_CONTROL": injecting.address,
        "POSTWARDEN_TOKEN_FILE": str(tmp_path / "token"),
        "POSTWARDEN_ADMIN": f"127.0.0.1:{admin}",
    }
    token = api_server.bound_token(pod)
    with SidecarProcess(tmp_path, upstream=None, token=token, variables=variables) as sidecar:
        sidecar.wait_for_health("/healthz", 200)
        wait_for_reasons(api_server, "wall", namespace, Programmed="False/Rejected")
        told = api_server.get("screeningpolicy", "wall", namespace)["status"]["conditions"]
        (why,) = [each["message"] for each in told if each["type"] == "Programmed"]
        assert "127.0.0.1:25" in why, "nothing listens where the pod's MTA would"


def test_manifest_for_those_without_the_webhook_is_one(
    api_server: ApiServer, injecting: InjectingOperator
) -> None:
    namespace = enabled_namespace(api_server)
    manifest = ROOT / "examples" / "sidecar-by-hand.yaml"
    api_server.kubectl(
        *(
            "apply",
            "--dry-run=server",
            "--validate=strict",
            f"--filename={manifest}",
            f"--namespace={namespace}",
        )
    )
    deployment, _ = documents(manifest.read_text())
    pod = {"apiVersion": "v1", "kind": "Pod", **deployment["spec"]["template"]}
    pod["metadata"]["name"] = "by-hand"
    made = created(api_server, pod, namespace)
    assert [each["name"] for each in made["spec"]["initContainers"]] == ["postwarden-sidecar"]
    assert "POSTWARDEN_CA_FILE" in str(sidecars(made))
