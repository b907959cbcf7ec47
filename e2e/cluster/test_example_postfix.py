"""examples/postfix and examples/postfix-pass in a real cluster, as their READMEs say; image and mailbox are the tests' own."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import pytest
from example_files import objects
from harness.mail_clients import ClientPod
from harness.mail_cluster import POSTFIX_IMAGE, MailService
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, hears
from harness.one_node.fixtures import RealCluster
from harness.polling import poll
from harness.screening_objects import wait_for_reasons


class ExampleService(MailService):
    """folder: of examples/."""

    def __init__(self, cluster: RealCluster, folder: str) -> None:
        super().__init__(cluster, folder)
        self._objects = {each["kind"]: each for each in objects(f"{folder}/postfix.yaml")}
        (self.policy,) = objects(f"{folder}/policy.yaml")
        for each in (*self._objects.values(), self.policy):
            each["metadata"]["namespace"] = self.namespace

    def __enter__(self) -> Self:
        super().__enter__()
        self.cluster.apply(self.policy)
        wait_for_reasons(self.cluster, "mail", self.namespace, Programmed="True/Synced")
        return self

    def _deployment(self) -> dict[str, Any]:
        deployment = self._objects["Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        spec["containers"][0] |= {"image": POSTFIX_IMAGE, "imagePullPolicy": "IfNotPresent"}
        spec["volumes"] = [
            self._mail_volume() if each["name"] == "mail" else each for each in spec["volumes"]
        ]
        return {"apiVersion": "v1", "kind": "List", "items": [self._objects["ConfigMap"], deployment]}

    def _service(self) -> dict[str, Any]:
        return self._objects["Service"]


@pytest.fixture(scope="module", params=["postfix", "postfix-pass"])
def service(request: pytest.FixtureRequest, installed: RealCluster) -> Iterator[ExampleService]:
    with ExampleService(installed, request.param) as running:
        yield running


@pytest.fixture(scope="module")
def friend(service: ExampleService) -> Iterator[ClientPod]:
    with service.client("friend") as client:
        yield client


def test_it_is_screened_and_a_mail_arrives_with_the_clients_own_address(
    service: ExampleService, friend: ClientPod
) -> None:
    said = friend.speak("good", subject="by the example")
    assert said.last.startswith("250 2.0.0"), (said, service.told())
    mails = poll(friend.mails, 15, service.told)
    assert f"[{friend.address}]" in mails[0]
    verdicts = {
        record.get("client.address"): record.get("postwarden.verdict")
        for pod in service.pods()
        for record in service.sidecar_log(pod)
    }
    assert verdicts[friend.address] == "pass_new"


def test_enforced_it_turns_a_listed_client_away(service: ExampleService, friend: ClientPod) -> None:
    spec = service.policy["spec"]
    spec["mode"] = "Enforce"
    spec["access"] |= {"myNetworks": [], "rules": [{"action": "Reject", "cidrs": [f"{friend.address}/32"]}]}
    service.cluster.apply(service.policy)
    for address in service.addresses().values():
        poll(partial(hears, friend, address, "550"), ENFORCED_WITHIN, service.told)
