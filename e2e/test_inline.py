"""Clients that pass the tests after the greeting are handed over in the middle of their session: real clients, a real Postfix, all four
hand-offs, with and without TLS; and a MAIL that the MTA refuses, as a sending Postfix hears it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.postfix import Postfix
from harness.postfix_configuration import Handoff
from harness.real_clients import SENDERS
from harness.senders import EXIM_TLS, sending_exim, sending_postfix, submit
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


@pytest.fixture(scope="module", params=POSTFIX_OF)
def served(request: pytest.FixtureRequest, postfix_root: Path) -> Iterator[tuple[Sidecar, Postfix, str]]:
    """A sidecar in front of a Postfix with TLS, and the hand-off's name: once for all tests."""
    handoff: str = request.param
    with Postfix(postfix_root, handoff=POSTFIX_OF[handoff], users=[*SENDERS, "bob", "carol"]) as postfix:
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
            before = len(postfix.mailbox(user))
            send(sidecar.host, sidecar.port, source, tls)
            sidecar.wait_for_log(rf"PASS NEW \[{re.escape(source)}\]:\d+")
            seen = "127.0.0.1" if handoff == "plain" else source
            mail = postfix.wait_for_mail(user, before + 1)[-1]
            assert f"[{seen}]" in mail["Received"]
            assert ("ESMTPS" in mail["Received"]) == tls
            assert mail.get_content().endswith(".a line that begins with a dot\n") or user == "swaks"


def test_one_session_two_mails_several_recipients(served: tuple[Sidecar, Postfix, str]) -> None:
    sidecar, postfix, _ = served
    before = len(postfix.mailbox("bob"))
    with Client(sidecar.host, sidecar.port, source="127.0.4.9") as client:
        client.greeted()
        client.expect("MAIL FROM:<alice@client.example> SIZE=300 BODY=8BITMIME", 250)
        assert client.ask("RCPT TO:<nobody@example.org> NOTIFY=NEVER").code == 550
        assert client.ask("RCPT TO:<bob@elsewhere.example>").code == 554
        client.expect("RSET", 250)
        client.deliver("bob@example.org", subject="one")
        client.deliver("bob@example.org", "std@example.org", subject="two")
        client.expect("QUIT", 221)
    mails = postfix.wait_for_mail("bob", before + 2)[before:]
    assert sorted(mail["Subject"] for mail in mails) == ["one", "two"]


@pytest.mark.parametrize("level", ["none", "encrypt"])
def test_a_sending_postfix_delivers_with_and_without_tls(
    served: tuple[Sidecar, Postfix, str], level: str, postfix_root: Path
) -> None:
    """One that insists on TLS never reaches RCPT in our dialogue."""
    sidecar, postfix, _ = served
    before = len(postfix.mailbox("carol"))
    source = "127.0.4.60" if level == "none" else "127.0.4.61"
    with sending_postfix(postfix_root, sidecar.address, source, smtp_tls_security_level=level) as sending:
        submit(sending, "carol@example.org", "nobody@example.org", "std@example.org")
        for user, status in (("carol", "sent"), ("nobody", "bounced"), ("std", "sent")):
            sending.wait_for_log(rf"to=<{user}@example.org>.* status={status}")
    (mail,) = postfix.wait_for_mail("carol", before + 1)[before:]
    assert ("ESMTPS" in mail["Received"]) == (level == "encrypt")
    sidecar.wait_for_log(rf"PASS NEW \[{re.escape(source)}\]:\d+")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_sending_exim_delivers(served: tuple[Sidecar, Postfix, str], tls: bool, exim_root: Path) -> None:
    """Mail goes in chunks (log: K), for Postfix offers that."""
    sidecar, postfix, handoff = served
    before = len(postfix.mailbox("carol"))
    source = f"127.0.4.{70 + tls}"
    with sending_exim(exim_root, sidecar.address, source, EXIM_TLS[tls]) as sending:
        submit(sending, "carol@example.org", "nobody@example.org", "std@example.org")
        for user in ("carol", "std"):
            sent = sending.wait_for_log(rf"[-=]> {user}@example\.org .* T=smtp .* K .*C=\"250")
            assert (" X=TLS" in sent) == tls
        sending.wait_for_log(r"\*\* nobody@example\.org .* 550 ")
        sending.wait_for_log("<= <> ")  # the bounce, to its own user
    (mail,) = postfix.wait_for_mail("carol", before + 1)[before:]
    assert ("ESMTPS" in mail["Received"]) == tls
    assert f"[{'127.0.0.1' if handoff == 'plain' else source}]" in mail["Received"]
    sidecar.wait_for_log(rf"PASS NEW \[{re.escape(source)}\]:\d+")


REFUSALS = {"450": ("450 4.7.1 later", "deferred"), "550": ("550 5.7.1 never", "bounced")}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("handoff", POSTFIX_OF)
def test_every_recipient_of_a_refused_mail_hears_what_the_mta_said(
    handoff: str, code: str, start_postfix: StartPostfix, postfix_root: Path
) -> None:
    text, status = REFUSALS[code]
    receiving = start_postfix(
        handoff=POSTFIX_OF[handoff],
        settings={
            "smtpd_delay_reject": "no",
            "smtpd_sender_restrictions": f"check_sender_access inline:{{{{alice@client.example={text}}}}}",
        },
    )
    with (
        up(POLICY, upstream=upstream_of(receiving), handoff=handoff) as sidecar,
        sending_postfix(postfix_root, sidecar.address, "127.0.4.50") as sending,
    ):
        submit(sending, "one@example.org", "two@example.org", "three@example.org")
        for user in ("one", "two", "three"):
            sending.wait_for_log(rf"to=<{user}@example.org>.* dsn={text.split()[1]}, status={status}")
        receiving.wait_for_log(rf"MAIL from .*: {code} ")
