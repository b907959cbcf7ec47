"""Clients from outside the cluster, with addresses of their own: they are judged and logged by those.

They come by the node's port of a Service with `externalTrafficPolicy: Local`, as through a load balancer that keeps addresses.
"""

import re

from harness.mail_clients import ClientPod
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import enforce, screening
from harness.netns import NetworkNamespace
from harness.outside_clients import FRIEND, ZOMBIE, node_of, outside
from harness.smtp import Client

__all__ = ["outside"]


def connect(service: MailService, network: NetworkNamespace, source: str) -> Client:
    return Client(node_of(service).layout.node_address, service.node_port(), source=source, network=network)


def test_they_are_screened_and_delivered_under_their_own_address(
    mail_service: MailService, friend: ClientPod, outside: NetworkNamespace
) -> None:
    enforce(mail_service, **screening(f"{ZOMBIE}/32"))
    with connect(mail_service, outside, ZOMBIE) as zombie:
        assert str(zombie.reply()).startswith("521 5.3.2")
    with connect(mail_service, outside, FRIEND) as client:
        client.greeted()
        client.deliver("bob@example.org", subject="from outside")
        client.expect("QUIT", 221)
    mail = friend.wait_for_mail("from outside", mail_service.told)
    assert re.search(rf"^Received: from client\.example \(\S+ \[{FRIEND}\]\)", mail, re.MULTILINE), mail
    records = [record for pod in mail_service.pods() for record in mail_service.sidecar_log(pod)]
    verdicts = {
        record["client.address"]: record["postwarden.verdict"]
        for record in records
        if "client.address" in record
    }
    assert (verdicts[ZOMBIE], verdicts[FRIEND]) == ("dropped", "pass_new")
