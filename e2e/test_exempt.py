"""Mail for exempt recipients from a client that is refused: real clients, a real Postfix, all four hand-offs."""

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.postfix import Postfix
from harness.senders import sending_postfix, submit
from harness.sidecar import Sidecar, up
from harness.smtp import TIMEOUT, Client, mail_to, send_with_aiosmtplib, send_with_swaks
from test_inline import POSTFIX_OF, upstream_of, with_tls

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
  access:
    myNetworks: []
    rules: [{action: Reject, cidrs: [127.0.6.0/24]}]
  pregreet: {wait: 100ms}
  exemptions: {recipients: ["postmaster@", "abuse@example.org"]}
"""
REFUSED = "5.3.2 Service currently unavailable"


@pytest.fixture(params=POSTFIX_OF, scope="module")
def served(request: pytest.FixtureRequest, postfix_root: Path) -> Iterator[tuple[Sidecar, Postfix, str]]:
    """A sidecar in front of a Postfix that offers TLS, CHUNKING and PIPELINING, and the hand-off's name."""
    handoff: str = request.param
    users = ("postmaster", "abuse", "bob")
    with Postfix(postfix_root, handoff=POSTFIX_OF[handoff], users=users) as postfix:
        with_tls(postfix)
        with up(POLICY, upstream=upstream_of(postfix), handoff=handoff) as sidecar:
            yield sidecar, postfix, handoff


def test_an_exempt_recipient_gets_the_mail_byte_for_byte_and_nobody_else_does(
    served: tuple[Sidecar, Postfix, str],
) -> None:
    sidecar, postfix, handoff = served
    with Client(sidecar.host, sidecar.port, source="127.0.6.1") as client:
        client.reply()
        offered = client.expect("EHLO client.example", 250).lines
        assert not {"STARTTLS", "CHUNKING", "PIPELINING"} & set(offered)
        client.expect("MAIL FROM:<alice@client.example> SIZE=300", 250)
        assert client.ask("RCPT TO:<bob@example.org>").lines == (REFUSED,)
        client.expect("RCPT TO:<Postmaster@Example.ORG>", 250)
        assert client.ask('RCPT TO:<"postmaster"@example.org>').lines == (REFUSED,)
        client.expect("RSET", 250)
        client.expect("MAIL FROM:<alice@client.example>", 250)
        client.expect("RCPT TO:<abuse@example.org>", 250)
        assert client.ask("RCPT TO:<postmaster@elsewhere.example>").code == 554, "the MTA's own word"
        client.expect("DATA", 354)
        client.send(b"Subject: exact " + handoff.encode() + b"\r\n\r\n..one dot\r\n . \r\n.\r\nNOOP\r\n")
        assert client.reply().code == 250
        assert client.ask("MAIL FROM:<alice@client.example>").code == 421
        assert client.rest() == b""
    (mail,) = [mail for mail in postfix.wait_for_mail("abuse") if mail["Subject"] == f"exact {handoff}"]
    assert mail.get_content() == ".one dot\n . \n"
    seen = "127.0.0.1" if handoff == "plain" else "127.0.6.1"
    assert f"[{seen}]" in mail["Received"]
    assert postfix.mailbox("bob") == []
    sidecar.wait_for_log(r"NOQUEUE: reject: RCPT from \[127\.0\.6\.1\].*to=<bob@example\.org>")
    with Client(sidecar.host, sidecar.port, source="127.0.6.1") as client:
        client.reply()
        client.expect("EHLO client.example", 250)
        client.expect("MAIL FROM:<alice@client.example>", 250)
        assert client.ask("RCPT TO:<bob@example.org>").lines == (REFUSED,), "no pass was stored"


def test_a_bare_newline_in_the_data_leaves_no_mail(served: tuple[Sidecar, Postfix, str]) -> None:
    sidecar, postfix, _ = served
    with Client(sidecar.host, sidecar.port, source="127.0.6.2") as client:
        client.greeted()
        client.expect("MAIL FROM:<smuggler@client.example>", 250)
        client.expect("RCPT TO:<abuse@example.org>", 250)
        client.expect("DATA", 354)
        client.send(
            b"Subject: one\r\n\r\nx\r\n.\nMAIL FROM:<b@c>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\ny\r\n.\r\n"
        )
        assert client.rest() == b"550 5.5.2 Error: bare <CR> or <LF> in the data\r\n"
    postfix.wait_for_log(r"lost connection after DATA")
    assert postfix.queue() == []
    assert postfix.mailbox("bob") == []


def test_real_clients_deliver_to_an_exempt_recipient(
    served: tuple[Sidecar, Postfix, str], swaks: str, postfix_root: Path
) -> None:
    """One that sends to several recipients hears of each what became of it."""
    sidecar, postfix, _ = served
    send_with_swaks(swaks, sidecar.address, "postmaster@example.org", source="127.0.6.3")
    send_with_aiosmtplib(sidecar.host, sidecar.port, "postmaster@example.org", source="127.0.6.4")
    with smtplib.SMTP(sidecar.host, sidecar.port, timeout=TIMEOUT, source_address=("127.0.6.5", 0)) as client:
        client.send_message(
            mail_to("postmaster@example.org", "hello"), to_addrs=["postmaster@example.org", "bob@example.org"]
        )
    with sending_postfix(
        postfix_root, sidecar.address, "127.0.6.6", smtp_tls_security_level="may"
    ) as sending:
        submit(
            sending, "bob@example.org", "postmaster@example.org", "abuse@example.org", "nobody@example.org"
        )
        for user in ("bob", "nobody"):
            sending.wait_for_log(rf"to=<{user}@example.org>.* status=bounced .*{re.escape(REFUSED)}")
        for user in ("postmaster", "abuse"):
            sending.wait_for_log(rf"to=<{user}@example.org>.* status=sent \(250")
    assert len(postfix.wait_for_mail("postmaster", 4)) == 4
    assert postfix.mailbox("bob") == []
