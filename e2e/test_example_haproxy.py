"""examples/haproxy with a real HAProxy, which keeps its clients' addresses by the PROXY protocol, and its checks, which are no clients."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from example_files import EXAMPLES, for_a_test, of_kind
from harness.example_servers import ExamplePostfix
from harness.haproxy import HAProxy
from harness.netns import NetworkNamespace
from harness.sidecar import Sidecar, up
from harness.smtp import Client

FRONT, OTHER_FRONT = "203.0.113.25", "198.51.100.25"
BALANCER, NODES = "192.0.2.10", ("192.0.2.21", "192.0.2.22")
FRIEND, LISTED = "203.0.113.7", "198.51.100.66"


@dataclass(frozen=True)
class Balanced:
    balancer: HAProxy
    sidecar: Sidecar
    postfix: ExamplePostfix
    outside: NetworkNamespace

    def client(self, server: str, source: str) -> Client:
        return Client(server, 25, source=source, network=self.outside)


@pytest.fixture(scope="module", params=["send-proxy-v2", "send-proxy"])
def balanced(request: pytest.FixtureRequest, postfix_root: Path) -> Iterator[Balanced]:
    """One sidecar is both nodes."""
    configuration = (EXAMPLES / "haproxy/haproxy.cfg").read_text()
    configuration = configuration.replace("server send-proxy-v2 ", f"server {request.param} ")
    configuration = configuration.replace("inter 5s", "inter 500ms")
    # The listed network has a way in of its own.
    configuration = configuration.replace("bind 203.0.113.25:25", "bind :25")
    node_port = of_kind("haproxy/service.yaml", "Service")["spec"]["ports"][0]["nodePort"]
    with NetworkNamespace() as nodes, NetworkNamespace() as balancer, NetworkNamespace() as outside:
        nodes.link(balancer, here=[f"{node}/24" for node in NODES], there=[f"{BALANCER}/24"])
        balancer.link(
            outside,
            here=[f"{FRONT}/24", f"{OTHER_FRONT}/24"],
            there=[f"{FRIEND}/24", f"{LISTED}/24"],
        )
        with (
            ExamplePostfix(postfix_root, "postfix", nodes) as postfix,
            up(
                for_a_test("haproxy/policy.yaml"),
                upstream=postfix.address,
                handoff="proxy-v2",
                listen=f"0.0.0.0:{node_port}",
                network=nodes,
            ) as sidecar,
            HAProxy(configuration, balancer) as running,
        ):
            yield Balanced(running, sidecar, postfix, outside)


def test_verdict_and_mail_server_have_the_clients_own_address(balanced: Balanced) -> None:
    with balanced.client(FRONT, FRIEND) as client:
        client.greeted()
        client.deliver("bob@example.org", subject="by way of HAProxy")
        client.expect("QUIT", 221)
    (mail,) = balanced.postfix.wait_for_mail("bob")
    assert f"[{FRIEND}]" in mail["Received"]
    balanced.sidecar.wait_for_log(rf"CONNECT from \[{re.escape(FRIEND)}\]:\d+ to \[{re.escape(FRONT)}\]:25")
    balanced.sidecar.wait_for_log(rf"PASS NEW \[{re.escape(FRIEND)}\]")


def test_a_listed_client_is_turned_away_behind_it(balanced: Balanced) -> None:
    with balanced.client(OTHER_FRONT, LISTED) as client:
        client.greeted()
        client.expect("MAIL FROM:<spam@client.example>", 250)
        client.expect("RCPT TO:<bob@example.org>", 550)


def test_its_checks_reach_the_mail_server_and_are_no_clients(balanced: Balanced) -> None:
    balanced.postfix.wait_for_log(rf"disconnect from \S*\[{re.escape(BALANCER)}\] ehlo=1 quit=1")
    assert "is DOWN" not in balanced.balancer.log()
    said = [line for line in balanced.sidecar.log() if f"[{BALANCER}]" in line]
    assert said
    assert not [line for line in said if "PASS NEW" in line or "NOQUEUE" in line or "HANGUP" in line], said


def test_it_notices_a_mail_server_that_is_away_and_one_that_is_back(balanced: Balanced) -> None:
    balanced.postfix.stop()
    for node in ("node1", "node2"):
        balanced.balancer.wait_for_log(rf"nodes/{node} is DOWN")
    balanced.postfix.start()
    balanced.balancer.wait_for_log(r"nodes/node1 is UP")


def test_whoever_comes_past_it_is_not_believed(balanced: Balanced) -> None:
    """A client that writes itself a PROXY header, from an address that nobody trusts."""
    with balanced.client(FRONT, FRIEND) as client:
        client.send(b"PROXY TCP4 192.0.2.10 203.0.113.25 1 25\r\n")
        client.line()
        assert client.reply().code != 250
