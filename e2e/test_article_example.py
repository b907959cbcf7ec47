"""The example of Postfix's postscreen documentation: `192.168.0.1 permit` before `192.168.0.0/16 reject`, with clients that have those
addresses: in a network of their own, and announced by PROXY headers of a load balancer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness.mail_network import (
    OTHERS,
    PERMITTED,
    PUBLIC,
    PUBLIC_MX,
    REJECTED,
    MailNetwork,
    mail_network,
    mx_for,
)
from harness.polling import poll
from harness.postfix import Postfix
from harness.sidecar import Sidecar, up
from harness.smtp import Client

__all__ = ["mail_network"]

LOAD_BALANCER = PUBLIC
UNLISTED = OTHERS[2]


def policy(action: str, log_format: str, listener: str) -> str:
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: article}}
spec:
  selector: {{}}
  access:
    myNetworks: []
    rejectAction: {action}
    rules:
    - listFrom:
        configMapKeyRef: {{name: access, key: postscreen_access.cidr}}
        format: PostfixCIDR
  pregreet: {{wait: 200ms}}
  telemetry: {{logFormat: {log_format}}}
  listener: {listener}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: access, labels: {{postwarden.dev/watch: "true"}}}}
data:
  postscreen_access.cidr: |
    # Rules are evaluated in the order as specified.
    # Blacklist 192.168.* except 192.168.0.1.
    192.168.0.1          permit
    192.168.0.0/16       reject
"""


@dataclass
class Article:
    """A running sidecar with that list in front of a Postfix. announced: clients come through a load balancer."""

    sidecar: Sidecar
    postfix: Postfix
    network: MailNetwork
    announced: bool
    now: str
    began: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many lines the log had before a client came: an earlier one may have had its port."""

    def use(self, action: str, log_format: str) -> None:
        """Edit the policy, unless it says so already."""
        text = text_of(action, log_format, self.announced)
        if text != self.now:
            self.sidecar.edit(text)
            self.now = text

    def connect(self, address: str) -> Client:
        """A connection that the sidecar takes for one from that address."""
        if not self.announced:
            return self.connect_itself(address)
        lines = len(self.sidecar.log())
        client = Client(PUBLIC_MX, self.sidecar.port, source=LOAD_BALANCER, network=self.network.outside)
        client.send(f"PROXY TCP4 {address} {mx_for(address)} {client.port} 25\r\n".encode())
        self.began[address, client.port] = lines
        return client

    def connect_itself(self, address: str) -> Client:
        """With nobody before the sidecar."""
        lines = len(self.sidecar.log())
        client = Client(mx_for(address), self.sidecar.port, source=address, network=self.network.outside)
        self.began[address, client.port] = lines
        return client

    def log_since(self, client: str, port: int) -> list[str]:
        """All lines from the moment at which the client came."""
        return self.sidecar.log()[self.began[client, port] :]

    def log_of(self, client: str, port: int, last: str) -> list[str]:
        """The lines about a client, without times and the sidecar's name, once one with `last` is there."""
        who = f"[{client}]:{port}"

        def lines() -> list[str] | None:
            found = [
                line for line in self.log_since(client, port) if who in line and "postfix/postscreen[" in line
            ]
            said = [line.partition("]: ")[2] for line in found]
            return said if any(line.startswith(last) for line in said) else None

        return poll(lines, 10, self.sidecar.log_text)

    def record_of(self, client: str, port: int) -> dict[str, Any]:
        """The line about a client in the JSON log."""

        def found() -> dict[str, Any] | None:
            for line in self.log_since(client, port):
                if line.startswith("{"):
                    attributes: dict[str, Any] = json.loads(line)
                    if (attributes["client.address"], attributes["client.port"]) == (client, port):
                        return attributes
            return None

        return poll(found, 10, self.sidecar.log_text)


def text_of(action: str, log_format: str, announced: bool) -> str:
    return policy(
        action, log_format, f"{{proxyProtocol: {{trusted: [{LOAD_BALANCER}]}}}}" if announced else "{}"
    )


@pytest.fixture(scope="module", params=["addresses of their own", "PROXY headers"])
def article(
    request: pytest.FixtureRequest, postfix_root: Path, mail_network: MailNetwork
) -> Iterator[Article]:
    announced = request.param == "PROXY headers"
    text = text_of("Enforce", "PostscreenLegacy", announced)
    with (
        Postfix(postfix_root, handoff="proxy", network=mail_network.mx) as postfix,
        up(
            text,
            upstream=postfix.address,
            handoff="proxy-v2",
            log_format=None,
            listen="0.0.0.0:0",
            network=mail_network.mx,
        ) as sidecar,
    ):
        yield Article(sidecar, postfix, mail_network, announced, text)


WORDS = pytest.mark.parametrize(
    ("log_format", "permit", "reject"),
    [("PostscreenLegacy", "WHITELISTED", "BLACKLISTED"), ("Postscreen", "ALLOWLISTED", "DENYLISTED")],
)


@WORDS
@pytest.mark.parametrize("action", ["Ignore", "Enforce", "Drop"])
def test_the_permitted_client_is_greeted_by_the_mta_at_once_whatever_the_action(
    article: Article, action: str, log_format: str, permit: str, reject: str
) -> None:
    article.use(action, log_format)
    before = len(article.postfix.mailbox("permitted"))
    with article.connect(PERMITTED) as client:
        assert client.line().startswith("220 mail.example.com ESMTP Postfix")  # no teaser: no test
        client.expect("EHLO client.example", 250)
        client.deliver("permitted@example.org")
        client.expect("QUIT", 221)
    mail = article.postfix.wait_for_mail("permitted", before + 1)[-1]
    assert f"[{PERMITTED}]" in mail["Received"]
    connect, listed = article.log_of(PERMITTED, client.port, permit)
    assert connect.startswith(f"CONNECT from [{PERMITTED}]:{client.port} to [{mx_for(PERMITTED)}]:")
    assert listed == f"{permit} [{PERMITTED}]:{client.port}"


@WORDS
def test_enforce_refuses_each_recipient_and_logs_who_wrote_to_whom(
    article: Article, log_format: str, permit: str, reject: str
) -> None:
    article.use("Enforce", log_format)
    clients = {address: article.connect(address) for address in (REJECTED, "192.168.0.2", "192.168.254.254")}
    for address, connected in clients.items():
        with connected as client:
            client.greeted()
            client.expect("MAIL FROM:<alice@client.example>", 250)
            for user in ("bob", "carol"):
                refusal = str(client.expect(f"RCPT TO:<{user}@example.org>", 550))
                assert refusal == "550 5.3.2 Service currently unavailable"
            client.expect("QUIT", 221)
        who = f"[{address}]:{client.port}"
        reply = f"NOQUEUE: reject: RCPT from {who}: 550 5.3.2 Service currently unavailable"
        envelope = "from=<alice@client.example>, to=<{}@example.org>, proto=ESMTP, helo=<client.example>"
        assert article.log_of(address, client.port, "DISCONNECT")[1:] == [
            f"{reject} {who}",
            *(f"{reply}; {envelope.format(user)}" for user in ("bob", "carol")),
            f"DISCONNECT {who}",
        ]
        assert not [line for line in article.postfix.log() if "NOQUEUE" in line]  # it knows nothing of them


@WORDS
def test_drop_answers_521_at_once_and_closes(
    article: Article, log_format: str, permit: str, reject: str
) -> None:
    article.use("Drop", log_format)
    with article.connect(REJECTED) as client:
        assert client.line() == "521 5.3.2 Service currently unavailable"
        assert client.rest() == b""
    who = f"[{REJECTED}]:{client.port}"
    assert article.log_of(REJECTED, client.port, "DISCONNECT")[1:] == [f"{reject} {who}", f"DISCONNECT {who}"]


@WORDS
def test_ignore_only_logs_and_the_mail_arrives(
    article: Article, log_format: str, permit: str, reject: str
) -> None:
    article.use("Ignore", log_format)
    before = len(article.postfix.mailbox("ignored"))
    with article.connect(REJECTED) as client:
        client.greeted().deliver("ignored@example.org")
        client.expect("QUIT", 221)
    mail = article.postfix.wait_for_mail("ignored", before + 1)[-1]
    assert f"[{REJECTED}]" in mail["Received"]
    assert f"{reject} [{REJECTED}]:{client.port}" in article.log_of(REJECTED, client.port, reject)


def test_a_client_that_is_not_in_the_list_is_tested_and_let_in(article: Article) -> None:
    article.use("Drop", "PostscreenLegacy")
    with article.connect(UNLISTED) as client:
        assert client.line().startswith("220-")
        client.greeted().deliver("unlisted@example.org")
        client.expect("QUIT", 221)
    article.postfix.wait_for_mail("unlisted")
    assert article.log_of(UNLISTED, client.port, "PASS NEW")[1:] == [f"PASS NEW [{UNLISTED}]:{client.port}"]


@pytest.mark.parametrize(
    ("action", "address", "verdict", "line"),
    [
        ("Enforce", PERMITTED, "allowlisted", 3),
        ("Enforce", REJECTED, "rejected", 4),
        ("Drop", REJECTED, "dropped", 4),
        ("Ignore", REJECTED, "tolerated", 4),
    ],
)
def test_json_has_one_line_a_client_with_its_verdict_and_the_line_of_the_list(
    article: Article, action: str, address: str, verdict: str, line: int
) -> None:
    article.use(action, "JSON")
    with article.connect(address) as client:
        if verdict != "dropped":
            client.greeted().expect("MAIL FROM:<alice@client.example>", 250)
            client.ask("RCPT TO:<bob@example.org>")
            client.expect("QUIT", 221)
        client.rest()
    record = article.record_of(address, client.port)
    assert record["postwarden.verdict"] == verdict
    assert record["postwarden.test"] == "access"
    assert record["postwarden.reason"].endswith(f"by spec.access.rules[0], line {line}")
    assert record["postwarden.policy.name"] == "article"
    assert record["server.address"] == mx_for(address)
    assert record["network.peer.address"] == (LOAD_BALANCER if article.announced else address)
    envelope = [record.get(f"postwarden.{name}") for name in ("helo", "sender", "recipient")]
    if verdict == "rejected":
        assert envelope == ["client.example", "alice@client.example", "bob@example.org"]


def test_an_address_that_is_no_load_balancer_may_not_announce_another(article: Article) -> None:
    """Its PROXY header is talk before the greeting: it would else lift itself out of the list."""
    article.use("Enforce", "PostscreenLegacy")
    address = "192.168.254.254"
    header = f"PROXY TCP4 {PERMITTED} {mx_for(PERMITTED)} 1234 25\r\n"
    with article.connect_itself(address) as client:
        client.send(header.encode())
        client.line()  # the teaser, if it has not passed that test before
        client.expect("EHLO client.example", 502)  # the header's answer; EHLO's comes next
        assert client.reply().code == 250
        client.expect("MAIL FROM:<alice@client.example>", 250)
        client.expect("RCPT TO:<bob@example.org>", 550)
    log = article.log_of(address, client.port, "NOQUEUE")
    assert f"BLACKLISTED [{address}]:{client.port}" in log
    assert not [line for line in article.sidecar.log() if f"[{PERMITTED}]:1234" in line]
