"""Mail through a screened Postfix of two replicas in a real cluster: installed by Helm, labelled, with policies of kubectl's."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness.mail_cluster import ClientPod, MailService
from harness.one_node.fixtures import RealCluster
from harness.polling import poll
from harness.screening_objects import policy, wait_for_reasons

ENFORCED_WITHIN = 5.0
"""Seconds from kubectl's end to what clients hear: 2 are promised, and a client's own start in its pod takes its time."""

ANNOTATIONS = {
    "postwarden.dev/handoff": "ProxyV2",
    "postwarden.dev/drain-delay": "2s",
    "postwarden.dev/drain-timeout": "5s",
}


@pytest.fixture(scope="module")
def service(installed: RealCluster) -> Iterator[MailService]:
    with MailService(installed, "mail", annotations=ANNOTATIONS) as running:
        yield running


@pytest.fixture(scope="module")
def friend(service: MailService) -> Iterator[ClientPod]:
    with service.client("friend") as client:
        yield client


@pytest.fixture(scope="module")
def zombie(service: MailService) -> Iterator[ClientPod]:
    with service.client("zombie") as client:
        yield client


def screening(*rejected: str, **more: Any) -> dict[str, Any]:
    rules = [{"action": "Reject", "cidrs": list(rejected)}] if rejected else []
    return {
        "access": {"myNetworks": [], "rejectAction": "Drop", "rules": rules},
        "pregreet": {"wait": "1s"},
        "upstream": {"port": 25, "handoff": "ProxyV2"},
        **more,
    }


def enforce(service: MailService, **spec: Any) -> None:
    """The policy is in force in every pod."""
    service.cluster.apply(policy("wall", service.namespace, **spec))
    wait_for_reasons(service.cluster, "wall", service.namespace, Programmed="True/Synced")


def received(mail: str) -> str:
    """Who the mail server says it has the mail from."""
    found = re.search(r"^Received: from \S+ \(\S+ \[([0-9a-fA-F.:]+)\]\)", mail, re.MULTILINE)
    assert found, mail
    return found[1]


def test_every_pod_got_a_sidecar_and_is_ready(service: MailService) -> None:
    pods = service.pods()
    assert len(pods) == 2
    for pod in pods:
        names = service.kubectl("get", "pod", pod, "--output=jsonpath={.spec.initContainers[*].name}")
        assert "postwarden-sidecar" in names.split()


def test_a_good_mail_arrives_with_the_clients_own_address(service: MailService, friend: ClientPod) -> None:
    enforce(service, **screening())
    said = friend.speak("good", subject="from a friend")
    assert said.last.startswith("250 2.0.0 Ok: queued"), said
    mails = poll(
        lambda: [each for each in friend.mails() if "from a friend" in each], 10, lambda: service.told()
    )
    assert received(mails[0]) == friend.address
