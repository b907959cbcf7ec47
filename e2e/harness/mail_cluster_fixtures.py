"""What the tests of mail in a real cluster share: a screened mail service, two clients, and the policy that they mostly have.

Contract: all tests of a run have the same service; each puts the policy in force that it needs.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.mail_clients import ClientPod
from harness.mail_cluster import MailService
from harness.one_node.fixtures import RealCluster
from harness.screening_objects import policy, wait_for_reasons

__all__ = ["friend", "mail_service", "zombie"]

ENFORCED_WITHIN = 45.0
"""Seconds from kubectl's end to what clients hear. 2 are promised, which test_cluster_sidecar.py holds it to; here each look is a client
that is started in its pod, on a machine that runs a whole cluster."""

ANNOTATIONS = {
    "postwarden.dev/handoff": "ProxyV2",
    "postwarden.dev/drain-timeout": "5s",
}


@pytest.fixture(scope="session")
def mail_service(installed: RealCluster) -> Iterator[MailService]:
    """Postfix in two pods, behind sidecars that hand over with PROXY headers."""
    with MailService(installed, "mail", annotations=ANNOTATIONS) as running:
        yield running


@pytest.fixture(scope="session")
def friend(mail_service: MailService) -> Iterator[ClientPod]:
    with mail_service.client("friend") as client:
        yield client


@pytest.fixture(scope="session")
def zombie(mail_service: MailService) -> Iterator[ClientPod]:
    with mail_service.client("zombie") as client:
        yield client


def screening(*rejected: str, **more: Any) -> dict[str, Any]:
    """A spec that turns these networks away, and tests who talks early within a second."""
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


def hears(client: ClientPod, host: str, begins: str) -> bool:
    """Whether the last reply to a mail begins so."""
    return client.speak("good", host=host).last.startswith(begins)
