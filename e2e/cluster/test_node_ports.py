"""Two ways in at the node itself: a hostPort, which moves to the sidecar; and a Service that hides addresses, which is told of."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.mail_clients import ClientPod
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import ANNOTATIONS, enforce, screening
from harness.netns import NetworkNamespace
from harness.one_node.fixtures import RealCluster
from harness.outside_clients import FRIEND, ZOMBIE, node_of, outside
from harness.polling import poll
from harness.screening_objects import conditions, wait_for_reasons
from harness.smtp import Client

__all__ = ["outside"]

HOST_PORT = 2525

SUSPICION = 100
"""Clients of one address, nearly all of them zombies, that the sidecar wants to have seen (docs/client-address.md)."""

TOLD_WITHIN = 30.0
"""Seconds until a log has it."""


@pytest.fixture(scope="module")
def service(installed: RealCluster) -> Iterator[MailService]:
    ports = [{"name": "smtp", "containerPort": 25, "hostPort": HOST_PORT}]
    with MailService(
        installed,
        "node-ports",
        replicas=1,
        annotations=ANNOTATIONS,
        container={"ports": ports},
        traffic_policy="Cluster",
    ) as running:
        enforce(running, **screening(f"{ZOMBIE}/32"))
        yield running


@pytest.fixture(scope="module")
def mailbox(service: MailService) -> Iterator[ClientPod]:
    with service.client("mailbox") as running:
        yield running


def connect(service: MailService, network: NetworkNamespace, source: str, port: int) -> Client:
    return Client(node_of(service).layout.node_address, port, source=source, network=network)


def test_clients_of_a_host_port_come_to_the_sidecar_with_their_own_addresses(
    service: MailService, mailbox: ClientPod, outside: NetworkNamespace
) -> None:
    (name,) = service.pods()
    pod = json.loads(service.kubectl("get", "pod", name, "--output=json"))
    ports = {each["name"]: each for each in pod["spec"]["containers"][0]["ports"]}
    assert ports["smtp-host"] == {
        "name": "smtp-host",
        "containerPort": 10025,
        "hostPort": HOST_PORT,
        "protocol": "TCP",
    }
    with connect(service, outside, ZOMBIE, HOST_PORT) as zombie:
        assert str(zombie.reply()).startswith("521 5.3.2")
    with connect(service, outside, FRIEND, HOST_PORT) as client:
        client.greeted()
        client.deliver("bob@example.org", subject="by a hostPort")
        client.expect("QUIT", 221)
    assert f"[{FRIEND}]" in mailbox.wait_for_mail("by a hostPort", service.told)


def test_policy_names_the_service_that_hides_addresses(service: MailService) -> None:
    wait_for_reasons(service.cluster, "wall", service.namespace, Intercepted="True/AddressLost")
    told = conditions(service.cluster, "wall", service.namespace)["Intercepted"]["message"]
    assert "hide their addresses: mail" in told
    assert "externalTrafficPolicy: Local" in told


def test_sidecar_notices_that_all_its_clients_have_one_address(
    service: MailService, outside: NetworkNamespace
) -> None:
    port = service.node_port()

    def talk_early(number: int) -> None:
        with connect(service, outside, FRIEND, port) as client:
            client.send(f"EHLO zombie-{number}.example\r\n".encode())
            client.line()  # of the greeting, which stays a teaser for it
            assert client.reply().code == 250
            client.expect("MAIL FROM:<spam@client.example>", 250)
            client.expect("RCPT TO:<bob@example.org>", 550)
            client.expect("QUIT", 221)

    # No more at a time than one client may have.
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(talk_early, range(SUSPICION)))
    (name,) = service.pods()

    def said() -> re.Match[str] | None:
        log = service.kubectl("logs", name, "--container=postwarden-sidecar")
        return re.search(r"clients' addresses seem to be lost: .*come from (\S+)", log)

    found = poll(said, TOLD_WITHIN, service.told)
    assert found[1] != FRIEND
    assert f'"client.address":"{FRIEND}","client.port"' in service.kubectl(
        "logs", name, "--container=postwarden-sidecar"
    ), "by the hostPort it was not lost"
