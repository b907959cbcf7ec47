"""The mode `redirect` in a real cluster: pods whose clients the kernel takes to the sidecar, set up by the webhook and kubelet.

Their Postfix listens on all of the pod's addresses and believes PROXY headers: past the sidecar anyone could write himself an address.
"""

import json
from collections.abc import Iterator

import pytest
from harness.mail_clients import ClientPod
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import ANNOTATIONS, ENFORCED_WITHIN, enforce, screening
from harness.one_node.fixtures import RealCluster
from harness.polling import poll
from harness.screening_objects import wait_for_reasons


@pytest.fixture(scope="module")
def redirected(installed: RealCluster) -> Iterator[MailService]:
    annotations = {**ANNOTATIONS, "postwarden.dev/intercept": "redirect"}
    with MailService(
        installed, "redirect", replicas=1, handoff="proxy-open", annotations=annotations
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(redirected: MailService) -> Iterator[ClientPod]:
    with redirected.client("client") as running:
        yield running


def test_the_mta_starts_once_kubelet_has_come_to_the_sidecar_by_the_rule(redirected: MailService) -> None:
    (name,) = redirected.pods()
    pod = json.loads(redirected.kubectl("get", "pod", name, "--output=json"))
    redirect, sidecar = pod["spec"]["initContainers"]
    assert (redirect["name"], sidecar["name"]) == ("postwarden-redirect", "postwarden-sidecar")
    assert sidecar["startupProbe"]["httpGet"]["port"] == sidecar["readinessProbe"]["httpGet"]["port"] == 10029
    assert pod["spec"]["containers"][0]["ports"] == [{"name": "smtp", "containerPort": 25, "protocol": "TCP"}]
    said = redirected.kubectl("logs", name, "--container=postwarden-redirect")
    assert said.startswith("clients of TCP port 25 come to port 10025 now (")


def test_clients_of_the_service_and_of_the_pods_own_address_are_screened_under_their_own(
    redirected: MailService, client: ClientPod
) -> None:
    enforce(redirected, **screening())
    wait_for_reasons(redirected.cluster, "wall", redirected.namespace, Intercepted="True/Intercepted")
    (address,) = redirected.addresses().values()
    assert client.speak("early").last.startswith("550 5.5.1"), "the Service leads to the MTA's port by name"
    assert client.speak("early", host=address, port=25).last.startswith("550 5.5.1")
    said = client.speak("good", host=address, port=25, subject="redirected")
    assert said.last.startswith("250 2.0.0 Ok: queued"), said
    mail = client.wait_for_mail("Subject: redirected", redirected.told)
    assert f"[{client.address}]" in mail


def test_kubelets_probes_are_no_clients_and_the_mtas_port_is_not_called_exposed(
    redirected: MailService, client: ClientPod
) -> None:
    (name,) = redirected.pods()
    assert client.speak("good").last.startswith("250")
    seen = {record.get("client.address") for record in redirected.sidecar_log(name)}
    assert seen == {client.address}
    assert "any pod may write itself an address" not in redirected.kubectl(
        "logs", name, "--container=postwarden-sidecar"
    )


def test_clients_by_ipv6_are_screened_and_delivered_under_their_own_address(
    redirected: MailService, client: ClientPod
) -> None:
    (name,) = redirected.pods()
    pod, own = (v6_address(redirected, each) for each in (name, client.name))
    enforce(redirected, **screening())
    assert client.speak("early", host=pod, port=25).last.startswith("550 5.5.1")
    said = client.speak("good", host=pod, port=25, subject="by IPv6")
    assert said.last.startswith("250 2.0.0 Ok: queued"), said
    mail = client.wait_for_mail("by IPv6", redirected.told)
    assert f"[IPv6:{own}]" in mail
    verdicts = [each for each in redirected.sidecar_log(name) if each.get("client.address") == own]
    assert [each["postwarden.verdict"] for each in verdicts] == ["rejected", "pass_new"]
    enforce(redirected, **screening(f"{own}/128"))
    poll(
        lambda: client.speak("good", host=pod, port=25).replies[0].startswith("521"),
        ENFORCED_WITHIN,
        redirected.told,
    )


def v6_address(service: MailService, pod: str) -> str:
    """Skips where pods have none: the tests' own node gives them one."""
    status = json.loads(service.kubectl("get", "pod", pod, "--output=json"))["status"]
    found = [each["ip"] for each in status["podIPs"] if ":" in each["ip"]]
    if not found:
        pytest.skip("the pods of this cluster have no IPv6 address")
    return str(found[0])


def test_the_mta_does_not_start_without_the_rule(redirected: MailService) -> None:
    (name,) = redirected.pods()
    pod = json.loads(redirected.kubectl("get", "pod", name, "--output=json"))
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    # As if its init container had done nothing: the webhook leaves a pod alone that has a sidecar.
    spec["initContainers"] = [
        each for each in spec["initContainers"] if each["name"] != "postwarden-redirect"
    ]
    metadata = {
        "name": "unredirected",
        "namespace": redirected.namespace,
        "labels": {"postwarden.dev/inject": "true"},
    }
    redirected.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def told() -> str:
        return redirected.cluster.events_of("unredirected", redirected.namespace)

    def listens() -> bool:
        return "listening on" in redirected.kubectl(
            "logs", "unredirected", "--container=postwarden-sidecar", "--ignore-errors"
        )

    poll(lambda: "Startup probe failed" in told() and ":10029" in told(), 60, told)
    poll(listens, 30, told)
    status = json.loads(redirected.kubectl("get", "pod", "unredirected", "--output=json"))["status"]
    assert status["containerStatuses"][0]["state"].keys() == {"waiting"}
    redirected.kubectl("delete", "pod", "unredirected", "--wait=false", "--grace-period=0", "--force")
