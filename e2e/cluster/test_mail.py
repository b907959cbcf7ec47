"""Mail through a screened Postfix of two replicas in a real cluster: installed by Helm, labelled, with policies of kubectl's."""

import re
from contextlib import ExitStack
from functools import partial

from harness.mail_clients import ClientPod, Flow
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, enforce, hears, screening
from harness.polling import poll
from harness.screening_objects import policy


def received(mail: str) -> str:
    """Who the mail server says it has the mail from."""
    found = re.search(r"^Received: from \S+ \(\S+ \[([0-9a-fA-F.:]+)\]\)", mail, re.MULTILINE)
    assert found, mail
    return found[1]


def test_every_pod_got_a_sidecar_and_is_ready(mail_service: MailService) -> None:
    pods = mail_service.pods()
    assert len(pods) == 2
    for pod in pods:
        names = mail_service.kubectl("get", "pod", pod, "--output=jsonpath={.spec.initContainers[*].name}")
        assert "postwarden-sidecar" in names.split()


def test_a_good_mail_arrives_with_the_clients_own_address(
    mail_service: MailService, friend: ClientPod
) -> None:
    enforce(mail_service, **screening())
    said = friend.speak("good", subject="from a friend")
    assert said.last.startswith("250 2.0.0 Ok: queued"), said
    mail = friend.wait_for_mail("from a friend", mail_service.told)
    assert received(mail) == friend.address


def test_listed_early_and_malformed_clients_are_turned_away(
    mail_service: MailService, friend: ClientPod, zombie: ClientPod
) -> None:
    enforce(mail_service, **screening(f"{zombie.address}/32"))
    refused = zombie.speak("good", subject="from a zombie")
    assert refused.replies[0].startswith("521 5.3.2"), refused
    # Each pod keeps passes of its own: a client that has earned one is not tested again.
    with mail_service.client("early") as early, mail_service.client("malformed") as malformed:
        hasty = early.speak("early")
        assert hasty.last.startswith("550 5.5.1"), hasty
        strange = malformed.speak("malformed")
        assert strange.last.startswith("521"), strange
        verdicts = {
            record["client.address"]: record["postwarden.verdict"]
            for pod in mail_service.pods()
            for record in mail_service.sidecar_log(pod)
            if "postwarden.verdict" in record
        }
        assert verdicts[zombie.address] == "dropped"
        assert verdicts[early.address] == "rejected"
        assert verdicts[malformed.address] == "dropped"
    assert friend.speak("good").last.startswith("250")
    assert not [mail for mail in friend.mails() if "from a zombie" in mail]


def test_an_edited_policy_is_in_force_in_every_pod_and_no_session_is_lost(
    mail_service: MailService, friend: ClientPod, zombie: ClientPod
) -> None:
    enforce(mail_service, **screening())
    addresses = mail_service.addresses().values()
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
            mail_service.cluster.apply(
                policy("wall", mail_service.namespace, **screening(f"{zombie.address}/32"))
            )
            for address in addresses:
                poll(partial(hears, zombie, address, "521"), ENFORCED_WITHIN, mail_service.told)
            flow.wait_for(3)
        # They began under the older rules.
        for session in held:
            assert session.deliver().last.startswith("250")
    assert flow.others == []
    flow.arrived()
