"""The mail servers of examples/ in a real cluster, deployed and seen to work by the command lines of their READMEs; and a real HAProxy
before the node, as examples/haproxy has it.

Images and mailbox are the tests' own; nothing else of the servers' files is changed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from example_files import EXAMPLES, of_kind
from harness.cluster_client import KubectlError
from harness.documented import console_blocks
from harness.documented_service import DocumentedService
from harness.haproxy import HAProxy
from harness.mail_clients import ClientPod
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, hears
from harness.netns import NetworkNamespace
from harness.one_node.fixtures import RealCluster
from harness.one_node.node import OneNode
from harness.polling import poll
from harness.screening_objects import wait_for_reasons
from harness.smtp import Client

SHOWN_WITHIN = 45.0
"""Seconds until a log has what was said, or status is written."""

SERVERS = {"postfix": "postfix", "postfix-pass": "postfix", "exim": "exim", "opensmtpd": "opensmtpd"}
"""The folder of each, and its manifest's name."""

BALANCER_FILES = ("haproxy/policy.yaml", "haproxy/service.yaml")

FRONT, OTHER_FRONT = "203.0.113.25", "198.51.100.25"
BALANCER, GATEWAY = "192.0.2.10", "192.0.2.1"
NODES = ("192.0.2.21", "192.0.2.22")
FRIEND, LISTED = "203.0.113.7", "198.51.100.66"
"""Around HAProxy; its policy lists the network 198.51.100.0/24."""

SEEN_AS_IN = {"postfix-pass": "postfix"}
"""Whose README says to look as in another's."""


@pytest.fixture(scope="module", params=SERVERS)
def service(request: pytest.FixtureRequest, installed: RealCluster) -> Iterator[DocumentedService]:
    example = request.param
    manifest = f"{example}/{SERVERS[example]}.yaml"
    files = [f"{example}/policy.yaml", *BALANCER_FILES]
    with DocumentedService(installed, manifest, EXAMPLES / example / "README.md", others=files) as running:
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
    assert f"[{friend.address}]" in friend.wait_for_mail("by the example", service.told)
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


@contextmanager
def balanced(node: OneNode) -> Iterator[tuple[HAProxy, NetworkNamespace]]:
    """HAProxy before the node, which is both of the example's nodes, and a network beyond it."""
    configuration = (EXAMPLES / "haproxy/haproxy.cfg").read_text().replace("inter 5s", "inter 500ms")
    # The listed network has a way in of its own.
    configuration = configuration.replace(f"bind {FRONT}:25", "bind :25")
    for address in NODES:
        configuration = configuration.replace(address, node.layout.node_address)
    with NetworkNamespace() as balancer, NetworkNamespace() as beyond:
        node.network.link(balancer, [f"{GATEWAY}/24"], [f"{BALANCER}/24"])
        balancer.run(["ip", "route", "add", "default", "via", GATEWAY])
        fronts, clients = ([f"{a}/24", f"{b}/24"] for a, b in ((FRONT, OTHER_FRONT), (FRIEND, LISTED)))
        balancer.link(beyond, fronts, clients)
        with HAProxy(configuration, balancer) as running:
            yield running, beyond


@pytest.mark.parametrize("service", ["postfix"], indirect=True)
def test_behind_haproxy_clients_are_screened_and_delivered_under_their_own_address(
    service: DocumentedService, friend: ClientPod
) -> None:
    node = service.cluster
    if not isinstance(node, OneNode):
        pytest.skip("a balancer can be had beside the tests' own node only")
    deploy, look = console_blocks(EXAMPLES / "haproxy" / "README.md")
    for line in deploy:
        if line.startswith("kubectl "):
            service.show(line)
    policy = of_kind("haproxy/policy.yaml", "ScreeningPolicy")
    policy["metadata"]["namespace"] = service.namespace
    policy["spec"] |= {"mode": "Enforce", "pregreet": {"action": "Enforce", "wait": "1s"}}
    service.cluster.apply(policy)
    wait_for_reasons(service.cluster, "mail", service.namespace, Programmed="True/Synced")
    with balanced(node) as (balancer, beyond):

        def told() -> str:
            return f"{balancer.log()}\n{service.told()}"

        with Client(FRONT, 25, source=FRIEND, network=beyond) as client:
            client.greeted()
            client.deliver("bob@example.org", subject="by way of HAProxy")
            client.expect("QUIT", 221)
        assert f"[{FRIEND}]" in friend.wait_for_mail("by way of HAProxy", told)
        with Client(OTHER_FRONT, 25, source=LISTED, network=beyond) as client:
            client.greeted()
            client.expect("MAIL FROM:<spam@client.example>", 250)
            client.expect("RCPT TO:<bob@example.org>", 550)
        for address in (FRIEND, LISTED):
            shows(service, look[-1], f'"client.address":"{re.escape(address)}"')
        assert "is DOWN" not in balancer.log()
    verdicts = {
        record.get("postwarden.verdict")
        for pod in service.pods()
        for record in service.sidecar_log(pod)
        if record.get("client.address") == BALANCER
    }
    assert verdicts <= {"allowlisted"}, "its checks are no clients"
