"""The mail servers of examples/ behind a real sidecar: their own configuration, their own policy, clients with addresses of their own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from example_files import for_a_test, of_kind
from harness.example_servers import EXAMPLE_SERVERS, example_server
from harness.mail_server import MailServer
from harness.netns import NetworkNamespace
from harness.postfix import Postfix
from harness.sidecar import Sidecar, up
from harness.smtp import Client

MX, FRIEND, HASTY = "192.0.2.25", "192.0.2.7", "192.0.2.8"
OTHER_MX, LISTED = "198.51.100.25", "198.51.100.66"
"""All policies here list the network 198.51.100.0/24."""
HANDOFFS = {"ProxyV2": "proxy-v2", "Pass": "pass"}


@dataclass(frozen=True)
class Served:
    server: MailServer
    sidecar: Sidecar
    outside: NetworkNamespace

    def client(self, source: str) -> Client:
        server = OTHER_MX if source == LISTED else MX
        return Client(server, self.sidecar.port, source=source, network=self.outside)


@pytest.fixture(scope="module", params=EXAMPLE_SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    example: str = request.param
    program = example if example in ("exim", "opensmtpd") else "postfix"
    root = request.getfixturevalue(f"{program}_root")
    handoff = of_kind(f"{example}/policy.yaml", "ScreeningPolicy")["spec"]["upstream"]["handoff"]
    with NetworkNamespace() as mx, NetworkNamespace() as outside:
        mx.link(
            outside,
            here=[f"{MX}/24", f"{OTHER_MX}/24"],
            there=[f"{address}/24" for address in (FRIEND, HASTY, LISTED)],
        )
        with example_server(example, root, mx) as server:
            upstream = server.address
            if handoff == "Pass":
                assert isinstance(server, Postfix)
                upstream = f"unix:{server.pass_socket}"
            policy = for_a_test(f"{example}/policy.yaml")
            with up(
                policy, upstream=upstream, handoff=HANDOFFS[handoff], listen="0.0.0.0:0", network=mx
            ) as sidecar:
                yield Served(server, sidecar, outside)


def test_a_mail_arrives_with_the_clients_own_address(served: Served) -> None:
    with served.client(FRIEND) as client:
        client.greeted()
        client.deliver("bob@example.org", subject="from a friend")
        client.expect("QUIT", 221)
    (mail,) = served.server.wait_for_mail("bob")
    assert f"[{FRIEND}]" in mail["Received"]
    served.sidecar.wait_for_log(rf"PASS NEW \[{re.escape(FRIEND)}\]")


def test_the_mail_server_relays_for_nobody(served: Served) -> None:
    with served.client(FRIEND) as client:
        client.greeted()
        client.expect("MAIL FROM:<alice@client.example>", 250)
        assert client.ask("RCPT TO:<bob@elsewhere.example>").code in (550, 554)


def test_listed_and_early_clients_are_turned_away(served: Served) -> None:
    with served.client(LISTED) as client:
        client.greeted()
        client.expect("MAIL FROM:<spam@client.example>", 250)
        client.expect("RCPT TO:<bob@example.org>", 550)
    with served.client(HASTY) as client:
        client.send(b"EHLO hasty.example\r\n")
        client.line()  # of the greeting, which stays a teaser for it
        assert client.reply().code == 250
        client.expect("MAIL FROM:<spam@client.example>", 250)
        client.expect("RCPT TO:<bob@example.org>", 550)
