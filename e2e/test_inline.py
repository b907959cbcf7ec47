"""Clients that pass the tests after the greeting are handed over in the middle of their session: real clients, a real Postfix, all four
hand-offs, with and without TLS; and a MAIL that the MTA refuses, as a sending Postfix hears it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.postfix import Postfix
from harness.postfix_configuration import Handoff
from harness.real_clients import SENDERS
from harness.sidecar import Sidecar, up
from harness.smtp import Client
from harness.tls_certificate import self_signed_pem

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {name: mail}
spec:
  selector: {}
  access: {myNetworks: []}
  pregreet: {wait: 100ms}
  protocol:
    pipelining: {enabled: true, action: Enforce}
    nonSMTPCommand: {enabled: true, action: Drop}
    bareNewline: {enabled: true, action: Enforce}
"""
POSTFIX_OF: dict[str, Handoff] = {"plain": "plain", "proxy-v1": "proxy", "proxy-v2": "proxy", "pass": "pass"}
CERTIFICATE = "/etc/postfix/tls.pem"  # as Postfix sees it

StartPostfix = Callable[..., Postfix]


def with_tls(postfix: Postfix) -> None:
    """Give it a certificate, and offer STARTTLS."""
    (postfix.directory / "etc" / Path(CERTIFICATE).name).write_bytes(self_signed_pem())
    postfix.reload({"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": CERTIFICATE})


def upstream_of(postfix: Postfix) -> str:
    return f"unix:{postfix.pass_socket}" if postfix.handoff == "pass" else postfix.address


@pytest.fixture(params=POSTFIX_OF)
def served(
    request: pytest.FixtureRequest, start_postfix: StartPostfix
) -> Iterator[tuple[Sidecar, Postfix, str]]:
    """A sidecar in front of a Postfix with TLS, and the hand-off's name."""
    handoff: str = request.param
    postfix = start_postfix(handoff=POSTFIX_OF[handoff], users=[*SENDERS, "bob"])
    with_tls(postfix)
    with up(POLICY, upstream=upstream_of(postfix), handoff=handoff) as sidecar:
        yield sidecar, postfix, handoff


def test_real_clients_are_handed_over_in_the_middle_with_and_without_tls(
    served: tuple[Sidecar, Postfix, str], swaks: str, msmtp: str
) -> None:
    sidecar, postfix, handoff = served
    for number, (user, send) in enumerate(SENDERS.items()):
        for tls in (False, True):
            source = f"127.0.{4 + tls}.{number + 1}"
            send(sidecar.host, sidecar.port, source, tls)
            sidecar.wait_for_log(rf"PASS NEW \[{re.escape(source)}\]:\d+")
            seen = "127.0.0.1" if handoff == "plain" else source
            mail = postfix.wait_for_mail(user, tls + 1)[tls]
            assert f"[{seen}]" in mail["Received"]
            assert ("ESMTPS" in mail["Received"]) == tls
            assert mail.get_content().endswith(".a line that begins with a dot\n") or user == "swaks"


def test_one_session_two_mails_several_recipients(served: tuple[Sidecar, Postfix, str]) -> None:
    sidecar, postfix, _ = served
    with Client(sidecar.host, sidecar.port, source="127.0.4.9") as client:
        client.greeted()
        client.expect("MAIL FROM:<alice@client.example> SIZE=300 BODY=8BITMIME", 250)
        assert client.ask("RCPT TO:<nobody@example.org> NOTIFY=NEVER").code == 550
        assert client.ask("RCPT TO:<bob@elsewhere.example>").code == 554
        client.expect("RSET", 250)
        client.deliver("bob@example.org", subject="one")
        client.deliver("bob@example.org", "std@example.org", subject="two")
        client.expect("QUIT", 221)
    assert [mail["Subject"] for mail in postfix.wait_for_mail("bob", 2)] == ["one", "two"]


def sender_to(sidecar: Sidecar, source: str, start_postfix: StartPostfix, **settings: str) -> Postfix:
    """A Postfix that sends all mail to the sidecar."""
    return start_postfix(
        hostname="client.example",
        domain="client.example",
        mynetworks=("127.0.0.0/8",),
        settings={
            "relayhost": f"[{sidecar.host}]:{sidecar.port}",
            "smtp_bind_address": source,
            "defer_transports": "",
            **settings,
        },
    )


def submit(sending: Postfix, *recipients: str) -> None:
    with Client(sending.host, sending.port) as client:
        client.greeted()
        client.deliver(*recipients)
        client.expect("QUIT", 221)


@pytest.mark.parametrize("level", ["none", "encrypt"])
def test_a_sending_postfix_delivers_with_and_without_tls(
    served: tuple[Sidecar, Postfix, str], level: str, start_postfix: StartPostfix
) -> None:
    """One that insists on TLS never reaches RCPT in our dialogue."""
    sidecar, postfix, _ = served
    sending = sender_to(sidecar, "127.0.4.60", start_postfix, smtp_tls_security_level=level)
    submit(sending, "bob@example.org", "nobody@example.org", "std@example.org")
    for user, status in (("bob", "sent"), ("nobody", "bounced"), ("std", "sent")):
        sending.wait_for_log(rf"to=<{user}@example.org>.* status={status}")
    (mail,) = postfix.wait_for_mail("bob")
    assert ("ESMTPS" in mail["Received"]) == (level == "encrypt")
    sidecar.wait_for_log(r"PASS NEW \[127\.0\.4\.60\]:\d+")


REFUSALS = {"450": ("450 4.7.1 later", "deferred"), "550": ("550 5.7.1 never", "bounced")}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("handoff", POSTFIX_OF)
def test_every_recipient_of_a_refused_mail_hears_what_the_mta_said(
    handoff: str, code: str, start_postfix: StartPostfix
) -> None:
    text, status = REFUSALS[code]
    receiving = start_postfix(
        handoff=POSTFIX_OF[handoff],
        settings={
            "smtpd_delay_reject": "no",
            "smtpd_sender_restrictions": f"check_sender_access inline:{{{{alice@client.example={text}}}}}",
        },
    )
    with up(POLICY, upstream=upstream_of(receiving), handoff=handoff) as sidecar:
        sending = sender_to(sidecar, "127.0.4.50", start_postfix)
        submit(sending, "one@example.org", "two@example.org", "three@example.org")
        for user in ("one", "two", "three"):
            sending.wait_for_log(rf"to=<{user}@example.org>.* dsn={text.split()[1]}, status={status}")
        receiving.wait_for_log(rf"MAIL from .*: {code} ")
