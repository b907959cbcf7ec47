"""Without the webhook: examples/sidecar-by-hand.yaml in a real cluster, applied by the command lines of docs/injection.md."""

from collections.abc import Iterator

import pytest
from harness.documented import DOCS
from harness.documented_service import DocumentedService
from harness.mail_clients import ClientPod
from harness.mail_cluster import MAIL_MOUNT, QUEUE_MOUNT
from harness.mail_cluster_fixtures import enforce
from harness.one_node.fixtures import RealCluster
from harness.screening_objects import wait_for_reasons

SPEC = {"pregreet": {"wait": "1s"}, "upstream": {"port": 25, "handoff": "Plain"}}

POSTFIX = {
    "env": [{"name": "HANDOFF", "value": "plain"}],
    "volumeMounts": [MAIL_MOUNT, QUEUE_MOUNT],
}
"""What the tests' image needs."""


@pytest.fixture(scope="module")
def service(installed: RealCluster) -> Iterator[DocumentedService]:
    page = DOCS / "injection.md"
    with DocumentedService(installed, "sidecar-by-hand.yaml", page, patch=POSTFIX, injected=False) as running:
        enforce(running, **SPEC)
        yield running


@pytest.fixture(scope="module")
def client(service: DocumentedService) -> Iterator[ClientPod]:
    with service.client("client") as running:
        yield running


def test_the_webhook_had_no_part_in_it(service: DocumentedService) -> None:
    assert len(service.pods()) == 2
    for pod in service.pods():
        told = service.kubectl("get", "pod", pod, "--output=jsonpath={.spec.initContainers[*].env}")
        assert "POSTWARDEN_CA_FILE" in told
        assert "BEGIN CERTIFICATE" not in told


def test_policy_is_in_force_and_nothing_leads_past_the_sidecars(service: DocumentedService) -> None:
    wait_for_reasons(
        service.cluster, "wall", service.namespace, Programmed="True/Synced", Intercepted="True/Intercepted"
    )


def test_zombies_are_turned_away_and_mail_arrives(service: DocumentedService, client: ClientPod) -> None:
    early = client.speak("early", host=service.service)
    assert early.last.startswith("550 5.5.1"), early
    said = client.speak("good", host=service.service, subject="by hand")
    assert said.last.startswith("250 2.0.0"), (said, service.told())
    client.wait_for_mail("Subject: by hand", service.told)
    records = [record for pod in service.pods() for record in service.sidecar_log(pod)]
    assert {record.get("client.address") for record in records} == {client.address}


def test_its_pods_drain(service: DocumentedService, client: ClientPod) -> None:
    """A session that is open when its pod is told to end goes on to its end."""
    pod, address = next(iter(service.addresses().items()))
    with client.held("while it drains", host=address) as session:
        service.kubectl("delete", "pod", pod, "--wait=false")
        said = session.deliver()
    assert said.last.startswith("250"), (said, service.told())
    client.wait_for_mail("Subject: while it drains", service.told)
