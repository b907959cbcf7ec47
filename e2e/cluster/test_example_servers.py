"""The mail servers of examples/ in a real cluster, deployed and seen to work by the command lines of their READMEs.

Images and mailbox are the tests' own; nothing else of the files is changed.
"""

import re
from collections.abc import Iterator
from functools import partial

import pytest
from example_files import EXAMPLES, of_kind
from harness.cluster_client import KubectlError
from harness.documented import console_blocks
from harness.documented_service import DocumentedService
from harness.mail_clients import ClientPod
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, hears
from harness.one_node.fixtures import RealCluster
from harness.polling import poll
from harness.screening_objects import wait_for_reasons

SHOWN_WITHIN = 45.0
"""Seconds until a log has what was said, or status is written."""

SERVERS = {"postfix": "postfix", "postfix-pass": "postfix", "exim": "exim", "opensmtpd": "opensmtpd"}
"""The folder of each, and its manifest's name."""

SEEN_AS_IN = {"postfix-pass": "postfix"}
"""Whose README says to look as in another's."""


@pytest.fixture(scope="module", params=SERVERS)
def service(request: pytest.FixtureRequest, installed: RealCluster) -> Iterator[DocumentedService]:
    example = request.param
    manifest, policy = f"{example}/{SERVERS[example]}.yaml", f"{example}/policy.yaml"
    readme = EXAMPLES / example / "README.md"
    with DocumentedService(installed, manifest, readme, others=[policy]) as running:
        yield running


@pytest.fixture(scope="module")
def friend(service: DocumentedService) -> Iterator[ClientPod]:
    with service.client("friend") as client:
        # As an emptyDir is, in whose place the tests' mailbox stands.
        service.kubectl("exec", "friend", "--", "chmod", "777", "/var/mail")
        yield client


def test_it_is_screened_as_its_readme_shows(
    service: DocumentedService, friend: ClientPod, request: pytest.FixtureRequest
) -> None:
    example = request.node.callspec.params["service"]
    *_, status = service.blocks[0]
    shows(service, status, r"^mail +.*\b2/2\b.* True\b")
    speak, *looks = console_blocks(EXAMPLES / SEEN_AS_IN.get(example, example) / "README.md")[1]
    with service.talk(speak) as client:
        said = friend.speak("good", subject="by the example")  # while the other waits
        assert said.last.startswith("250"), (said, service.told())
        client.hears(r"^220 ")
        address = service.kubectl("get", "pod", "client", "--output=jsonpath={.status.podIP}")
        client.type("EHLO client.example", "250 ")
        client.type("MAIL FROM:<alice@client.example>", "250 ")
        client.type("RCPT TO:<bob@example.org>", "250 ")
        client.type("DATA", "354 ")
        client.type("Subject: typed\r\n\r\nDear Bob\r\n.", "250 ")
        client.type("QUIT", "221 ")
    for look in looks:
        shows(service, look, re.escape(address))


def shows(service: DocumentedService, line: str, pattern: str) -> None:
    """Until the command line's output has the regular expression. Raises TimeoutError with what it was."""
    seen = ""

    def found() -> bool:
        nonlocal seen
        try:
            seen = service.show(line)
        except KubectlError as error:
            seen = str(error)  # grep, that found nothing
        return re.search(pattern, seen, re.MULTILINE) is not None

    poll(found, SHOWN_WITHIN, lambda: f"no {pattern!r} in what `{line}` shows: {seen}\n{service.told()}")


def test_a_mail_arrives_with_the_clients_own_address(service: DocumentedService, friend: ClientPod) -> None:
    (mail, *_) = poll(friend.mails, SHOWN_WITHIN, service.told)
    assert "by the example" in mail
    assert f"[{friend.address}]" in mail
    verdicts = {
        record.get("client.address"): record.get("postwarden.verdict")
        for pod in service.pods()
        for record in service.sidecar_log(pod)
    }
    assert verdicts[friend.address] == "pass_new"


def test_enforced_it_turns_a_listed_client_away(
    service: DocumentedService, friend: ClientPod, request: pytest.FixtureRequest
) -> None:
    policy = of_kind(f"{request.node.callspec.params['service']}/policy.yaml", "ScreeningPolicy")
    policy["metadata"]["namespace"] = service.namespace
    spec = policy["spec"]
    spec["mode"] = "Enforce"
    spec["pregreet"]["wait"] = "1s"
    spec["access"] |= {"myNetworks": [], "rules": [{"action": "Reject", "cidrs": [f"{friend.address}/32"]}]}
    service.cluster.apply(policy)
    wait_for_reasons(service.cluster, "mail", service.namespace, Programmed="True/Synced")
    for address in service.addresses().values():
        poll(partial(hears, friend, address, "550"), ENFORCED_WITHIN, service.told)
