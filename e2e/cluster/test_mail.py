"""Mail through a screened Postfix of two replicas in a real cluster: installed by Helm, labelled, with policies of kubectl's."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from harness.mail_cluster import ClientPod, Flow, MailService
from harness.one_node.fixtures import RealCluster
from harness.polling import poll
from harness.screening_objects import policy, wait_for_reasons

ENFORCED_WITHIN = 20.0
"""Seconds from kubectl's end to what clients hear. 2 are promised, which test_cluster_sidecar.py holds it to; here each look is a client that
is started in its pod, on a machine that runs a whole cluster."""

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


def hears(client: ClientPod, host: str, begins: str) -> bool:
    return client.speak("good", host=host).last.startswith(begins)


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


def test_listed_early_and_malformed_clients_are_turned_away(
    service: MailService, friend: ClientPod, zombie: ClientPod
) -> None:
    enforce(service, **screening(f"{zombie.address}/32"))
    refused = zombie.speak("good", subject="from a zombie")
    assert refused.replies[0].startswith("521 5.3.2"), refused
    # Each pod keeps passes of its own: a client that has earned one is not tested again.
    with service.client("early") as early, service.client("malformed") as malformed:
        hasty = early.speak("early")
        assert hasty.last.startswith("550 5.5.1"), hasty
        strange = malformed.speak("malformed")
        assert strange.last.startswith("521"), strange
        verdicts = {
            record["client.address"]: record["postwarden.verdict"]
            for pod in service.pods()
            for record in service.sidecar_log(pod)
            if "postwarden.verdict" in record
        }
        assert verdicts[zombie.address] == "dropped"
        assert verdicts[early.address] == "rejected"
        assert verdicts[malformed.address] == "dropped"
    assert friend.speak("good").last.startswith("250")
    assert not [mail for mail in friend.mails() if "from a zombie" in mail]


def test_an_edited_policy_is_in_force_in_every_pod_and_no_session_is_lost(
    service: MailService, friend: ClientPod, zombie: ClientPod
) -> None:
    enforce(service, **screening())
    addresses = service.addresses().values()
    for address in addresses:
        assert friend.speak("good", host=address).last.startswith("250")
        assert zombie.speak("good", host=address).last.startswith("250")
    with ExitStack() as open_sessions:
        held = [
            open_sessions.enter_context(zombie.held(f"held {n}", host=address))
            for n, address in enumerate(addresses)
        ]
        with Flow(friend, "while-edited") as flow:
            flow.wait_for(3)
            service.cluster.apply(policy("wall", service.namespace, **screening(f"{zombie.address}/32")))
            for address in addresses:
                poll(partial(hears, zombie, address, "521"), ENFORCED_WITHIN, service.told)
            flow.wait_for(3)
        # They began under the older rules.
        for session in held:
            assert session.deliver().last.startswith("250")
    assert flow.others == []
    flow.arrived()
