"""Exim and OpenSMTPD behind the sidecar, in each hand-off that they know, configured as the documentation says: real clients, sessions
with all that the servers offer, and a sending Exim."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.documented import documented
from harness.exim import Exim
from harness.mail_server import MailServer
from harness.opensmtpd import OpenSmtpd
from harness.real_clients import SENDERS, unverified
from harness.senders import EXIM_TLS, sending_exim, sending_postfix, submit
from harness.sidecar import Sidecar, up
from harness.smtp import Client, Reply
from harness.tls_certificate import self_signed_pem
from postwarden_sidecar.handoff.proof import OPEN_RELAY, PROVED, UNPROVED, WRONG_ANSWER, ProofResult
from postwarden_sidecar.rules.settings import Handoff, Upstream
from postwarden_sidecar.supervisor import prober

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
EXIM_REFUSES = (
    "acl_smtp_mail = ${if match{$sender_address}{refused-450}{defer message = 450 4.7.1 not from you}"
    "{${if match{$sender_address}{refused-550}{deny message = 550 4.7.1 not from you}{accept}}}}"
)
OPENSMTPD_REFUSES = [
    f'filter "{code}" phase mail-from match mail-from {{ "refused-{code}@client.example" }} reject "{code} 4.7.1 not from you"'
    for code in (450, 550)
]
PROXY_V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
USERS = [*SENDERS, "bob", "carol", "dave"]


def exim(root: Path, *, proxy: bool) -> Exim:
    """The documentation's; its banner has three lines, which the hand-offs must count as one reply."""
    lines = [line for line in documented("exim") if proxy or not line.startswith("hosts_proxy")]
    lines += [r'smtp_banner = "$primary_hostname ESMTP here\nsecond line\nthird line"', EXIM_REFUSES]
    return Exim(root, lines=lines, users=USERS, certificate=self_signed_pem())


def opensmtpd(root: Path, *, proxy: bool) -> OpenSmtpd:
    """The documentation's."""
    listen, *rules = documented("smtpd.conf")
    listen = listen if proxy else listen.removesuffix(" proxy-v2")
    chain = 'filter "all" chain { "450", "550" }'
    lines = [*OPENSMTPD_REFUSES, chain, f'{listen} filter "all"', *rules]
    return OpenSmtpd(root, lines=lines, users=USERS, certificate=self_signed_pem())


@pytest.fixture(scope="module")
def servers(exim_root: Path, opensmtpd_root: Path) -> Iterator[dict[str, MailServer]]:
    """Both programs, with and without PROXY headers, for all tests."""
    with ExitStack() as running:
        yield {
            name: running.enter_context(server)
            for name, server in {
                "exim": exim(exim_root, proxy=False),
                "exim-proxy": exim(exim_root, proxy=True),
                "opensmtpd": opensmtpd(opensmtpd_root, proxy=False),
                "opensmtpd-proxy": opensmtpd(opensmtpd_root, proxy=True),
            }.items()
        }


@dataclass(frozen=True)
class Served:
    """A sidecar in front of a server. seen: whether the server sees its clients' addresses."""

    sidecar: Sidecar
    server: MailServer
    seen: bool


@pytest.fixture(
    scope="module",
    params=[
        ("exim", "plain"),
        ("exim-proxy", "proxy-v1"),
        ("exim-proxy", "proxy-v2"),
        ("opensmtpd", "plain"),
        ("opensmtpd-proxy", "proxy-v2"),
    ],
    ids="-".join,
)
def served(request: pytest.FixtureRequest, servers: dict[str, MailServer]) -> Iterator[Served]:
    """Each server in each hand-off, once for all tests."""
    name, handoff = request.param
    server = servers[name]
    with up(POLICY, upstream=server.address, handoff=handoff) as sidecar:
        yield Served(sidecar, server, handoff != "plain")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_real_clients_are_handed_over_in_the_middle(
    served: Served, tls: bool, swaks: str, msmtp: str
) -> None:
    sidecar, server = served.sidecar, served.server
    for number, (user, send) in enumerate(SENDERS.items()):
        before = len(server.mailbox(user))
        source = f"127.0.{4 + tls}.{number + 1}"
        send(sidecar.host, sidecar.port, source, tls)
        mail = server.wait_for_mail(user, before + 1)[-1]
        received = mail["Received"]
        assert f"[{source if served.seen else '127.0.0.1'}]" in received
        assert ("esmtps" in received.lower()) == tls
        assert mail.get_content().endswith(".a line that begins with a dot\n") or user == "swaks"
        sidecar.wait_for_log(rf"PASS NEW \[{source}\]:\d+")


def is_exim(served: Served) -> bool:
    return isinstance(served.server, Exim)


def client_of(served: Served, source: str) -> Client:
    return Client(served.sidecar.host, served.sidecar.port, source=source)


def test_the_sidecar_offers_what_the_server_does(served: Served) -> None:
    with Client(served.server.host, served.server.port) as direct, client_of(served, "127.0.6.1") as client:
        if served.seen:
            direct.send(b"PROXY TCP4 127.0.6.1 127.0.0.1 1 25\r\n" if is_exim(served) else PROXY_V2_LOCAL)
        assert direct.reply().code == client.reply().code == 220
        own, screened = (one.expect("EHLO client.example", 250).lines[1:] for one in (direct, client))
    assert set(own) - set(screened) == ({"PIPELINING", "HELP"} if is_exim(served) else {"HELP"})
    assert set(screened) < set(own)


def test_several_mails_refused_recipients_and_rset_in_one_session(served: Served) -> None:
    before = len(served.server.mailbox("bob")), len(served.server.mailbox("carol"))
    with client_of(served, "127.0.6.2") as client:
        client.greeted()
        client.expect("MAIL FROM:<alice@client.example> SIZE=300 BODY=8BITMIME RET=HDRS ENVID=one", 250)
        unknown = client.ask("RCPT TO:<nobody@example.org> NOTIFY=NEVER")
        assert unknown.code == (550 if is_exim(served) else 524)
        assert client.ask("RCPT TO:<bob@elsewhere.example>").code == 550
        client.expect("RSET", 250)
        client.deliver("bob@example.org", subject="one")
        client.deliver("bob@example.org", "carol@example.org", subject="two")
        client.expect("QUIT", 221)
    bob = served.server.wait_for_mail("bob", before[0] + 2)
    assert sorted(mail["Subject"] for mail in bob[before[0] :]) == ["one", "two"]
    served.server.wait_for_mail("carol", before[1] + 1)


def test_what_the_server_says_of_a_mail_that_is_too_big_reaches_the_client(served: Served) -> None:
    with client_of(served, "127.0.6.3") as client:
        client.greeted()
        client.expect("MAIL FROM:<alice@client.example> SIZE=999999999", 250)
        # OpenSMTPD looks at the size when it has the mail.
        client.expect("RCPT TO:<bob@example.org>", 552 if is_exim(served) else 250)


def test_a_client_that_passed_is_handed_over_with_the_greeting(served: Served) -> None:
    before = len(served.server.mailbox("bob"))
    for _ in range(2):
        with client_of(served, "127.0.6.4") as client:
            client.greeted()
            client.deliver("bob@example.org")
            client.expect("QUIT", 221)
    served.sidecar.wait_for_log(r"PASS OLD \[127\.0\.6\.4\]:\d+")
    mails = served.server.wait_for_mail("bob", before + 2)
    seen = "[127.0.6.4]" if served.seen else "[127.0.0.1]"
    assert all(seen in mail["Received"] for mail in mails[before:])


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_client_may_pipeline_once_the_server_has_offered_it(served: Served, tls: bool) -> None:
    if not is_exim(served):
        return
    before = len(served.server.mailbox("bob"))
    with client_of(served, f"127.0.6.{5 + tls}") as client:
        client.greeted()
        if tls:
            client.expect("STARTTLS", 220)
            client.socket = unverified().wrap_socket(client.socket)
        else:
            client.deliver("carol@example.org")
        assert "PIPELINING" in client.expect("EHLO client.example", 250).lines
        client.send(
            b"MAIL FROM:<alice@client.example>\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
            b"RCPT TO:<carol@example.org>\r\nDATA\r\n"
        )
        assert [client.reply().code for _ in range(5)] == [250, 250, 550, 250, 354]
        client.send(b"Subject: piped\r\n\r\nhello\r\n.\r\nQUIT\r\n")
        assert [client.reply().code for _ in range(2)] == [250, 221]
    assert served.server.wait_for_mail("bob", before + 1)[-1]["Subject"] == "piped"


def test_chunks_and_utf8_addresses(served: Served) -> None:
    if not is_exim(served):
        return
    before = len(served.server.mailbox("dave"))
    body = b"Subject: chunks\r\n\r\n.\r\nnot the end\r\n"
    with client_of(served, "127.0.6.7") as client:
        client.greeted()
        client.expect("MAIL FROM:<jürgen@client.example> SMTPUTF8 BODY=8BITMIME", 250)
        client.expect("RCPT TO:<dave@example.org>", 250)
        client.send(b"BDAT 9\r\n" + body[:9])
        assert client.reply().code == 250
        client.send(b"BDAT %d LAST\r\n" % (len(body) - 9) + body[9:])
        assert client.reply().code == 250
        client.expect("QUIT", 221)
    mail = served.server.wait_for_mail("dave", before + 1)[-1]
    assert mail["Subject"] == "chunks"
    assert mail.get_content() == ".\nnot the end\n"
    assert "utf8esmtp" in mail["Received"]


@pytest.mark.parametrize("code", [450, 550])
def test_a_refused_mail_is_refused_to_each_recipient_and_the_next_is_taken(served: Served, code: int) -> None:
    before = len(served.server.mailbox("bob"))
    with client_of(served, f"127.0.6.{code - 400}") as client:
        client.greeted()
        client.expect(f"MAIL FROM:<refused-{code}@client.example>", 250)
        for recipient in ("bob", "carol", "nobody"):
            refused = client.ask(f"RCPT TO:<{recipient}@example.org>")
            assert (refused.code, refused.lines) == (code, ("4.7.1 not from you",))
        # A second EHLO, which OpenSMTPD takes in no session that had one.
        client.expect("EHLO other.example", 250)
        client.deliver("bob@example.org", subject="after all")
        client.expect("QUIT", 221)
    mail = served.server.wait_for_mail("bob", before + 1)[-1]
    assert "other.example" in mail["Received"]


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_sending_exim_delivers(served: Served, tls: bool, exim_root: Path) -> None:
    """One that insists on TLS never reaches RCPT in our dialogue. Mail goes in chunks (log: K) to a server that takes them."""
    server = served.server
    before = len(server.mailbox("bob"))
    source = f"127.0.7.{1 + tls}"
    with sending_exim(exim_root, served.sidecar.address, source, EXIM_TLS[tls]) as sending:
        submit(sending, "bob@example.org", "nobody@example.org", "carol@example.org")
        for user in ("bob", "carol"):
            sent = sending.wait_for_log(rf"[-=]> {user}@example\.org .* T=smtp .*C=\"250")
            assert ((" K " in sent), (" X=TLS" in sent)) == (is_exim(served), tls)
        sending.wait_for_log(r"\*\* nobody@example\.org .* (550|524) ")
        sending.wait_for_log("<= <> ")  # the bounce, to its own user
    (mail,) = server.wait_for_mail("bob", before + 1)[before:]
    assert ("esmtps" in mail["Received"].lower()) == tls
    assert f"[{source if served.seen else '127.0.0.1'}]" in mail["Received"]
    served.sidecar.wait_for_log(rf"PASS NEW \[{source}\]:\d+")


def test_a_sending_postfix_delivers(served: Served, postfix_root: Path) -> None:
    """With TLS where it is offered, as most of the world's senders are set up."""
    before = len(served.server.mailbox("bob"))
    address = served.sidecar.address
    with sending_postfix(postfix_root, address, "127.0.7.4", smtp_tls_security_level="may") as sending:
        submit(sending, "bob@example.org", "nobody@example.org", "carol@example.org")
        for user, status in (("bob", "sent"), ("nobody", "bounced"), ("carol", "sent")):
            sending.wait_for_log(rf"to=<{user}@example.org>.* status={status}")
    (mail,) = served.server.wait_for_mail("bob", before + 1)[before:]
    assert "esmtps" in mail["Received"].lower()
    assert f"[{'127.0.7.4' if served.seen else '127.0.0.1'}]" in mail["Received"]


def test_a_sending_exim_comes_back_where_it_is_told_to(
    servers: dict[str, MailServer], exim_root: Path
) -> None:
    server = servers["exim-proxy"]
    before = len(server.mailbox("dave"))
    policy = POLICY + "    handoff: Reconnect\n"
    with (
        up(policy, upstream=server.address, handoff="proxy-v2") as sidecar,
        sending_exim(exim_root, sidecar.address, "127.0.7.3", EXIM_TLS[False]) as sending,
    ):
        submit(sending, "dave@example.org")
        sending.wait_for_log(r"== dave@example\.org .* 450 4\.3\.2 ")
        sending.deliver_queue()
        sending.wait_for_log(r"=> dave@example\.org ")
        sidecar.wait_for_log(r"PASS OLD \[127\.0\.7\.3\]:\d+")
    assert "[127.0.7.3]" in server.wait_for_mail("dave", before + 1)[-1]["Received"]


WRONG = {
    "a header to an Exim that wants none": ("exim", Handoff.PROXY_V2, WRONG_ANSWER),
    "a header of version 1 to an Exim that wants none": ("exim", Handoff.PROXY_V1, WRONG_ANSWER),
    "none to an Exim that wants one": ("exim-proxy", Handoff.PLAIN, WRONG_ANSWER),
    "a header to an OpenSMTPD that wants none": ("opensmtpd", Handoff.PROXY_V2, WRONG_ANSWER),
    "none to an OpenSMTPD that wants one": ("opensmtpd-proxy", Handoff.PLAIN, UNPROVED),
    "version 1 to an OpenSMTPD that wants version 2": ("opensmtpd-proxy", Handoff.PROXY_V1, UNPROVED),
}


@pytest.mark.parametrize(("name", "handoff", "state"), WRONG.values(), ids=WRONG)
def test_a_wrong_hand_off_is_never_proved(
    servers: dict[str, MailServer], name: str, handoff: Handoff, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSMTPD says nothing at all; Exim waits for 3 s, and then refuses every command.
    monkeypatch.setattr(prober, "SILENCE", 4.0)
    proof = proved(servers[name], handoff)
    assert proof.state == state, proof.detail


def test_a_client_that_was_promised_more_than_the_server_gives_it_comes_back_and_is_served(
    exim_root: Path,
) -> None:
    """The server takes chunks from all but one network, of which the proof knows nothing."""
    lines = [*documented("exim"), "chunking_advertise_hosts = !127.0.8.0/24 : *"]
    with (
        Exim(exim_root, lines=lines) as server,
        up(POLICY, upstream=server.address, handoff="proxy-v2") as sidecar,
        sending_exim(exim_root, sidecar.address, "127.0.8.1") as sending,
    ):
        submit(sending, "bob@example.org")
        sending.wait_for_log(r"== bob@example\.org .* 450 4\.3\.0 ")
        sending.deliver_queue()
        assert " K " not in sending.wait_for_log(r"=> bob@example\.org ")
        server.wait_for_mail("bob")


@pytest.mark.parametrize("invites", [False, True], ids=["quiet", "PIPECONNECT"])
def test_nobody_is_turned_away_for_good_when_the_server_has_ceased_to_expect_headers(
    invites: bool, exim_root: Path
) -> None:
    """Exim answers the header with 554 or, where it lets clients talk early, with 220 and a 500."""
    lines = documented("exim")
    with (
        Exim(exim_root, lines=lines) as server,
        up(POLICY, upstream=server.address, handoff="proxy-v2") as sidecar,
    ):
        with Client(sidecar.host, sidecar.port, source="127.0.6.20") as client:
            client.greeted()
            client.deliver("bob@example.org")
        server.restart_with(
            [f"local_interfaces = 127.0.0.1.{server.port}"] if invites else [lines[0], lines[-1]]
        )
        # The first meets it in the middle of its session; those who passed before are handed over with the greeting.
        for source in ("127.0.6.21", "127.0.6.20", "127.0.6.20", "127.0.6.22"):
            with Client(sidecar.host, sidecar.port, source=source) as client:
                assert first_refusal(client).code in (421, 450)
        sidecar.wait_for_log("gave a wrong answer to a client")


def first_refusal(client: Client) -> Reply:
    """Of a mail that should be taken."""
    reply = client.reply()
    for command in ("EHLO client.example", "MAIL FROM:<alice@client.example>", "RCPT TO:<bob@example.org>"):
        if reply.code >= 400:
            break
        reply = client.ask(command)
    assert reply.code >= 400, f"{reply}: the last command was taken"
    return reply


def test_an_open_relay_is_found(exim_root: Path, opensmtpd_root: Path) -> None:
    """As Debian's own configurations are, for a sidecar on the same machine."""
    listen, *_ = documented("smtpd.conf")
    lines = [listen.partition(" tls")[0], 'action "relay" relay', 'match from local for any action "relay"']
    with OpenSmtpd(opensmtpd_root, lines=lines) as server:
        assert proved(server, Handoff.PLAIN).state == OPEN_RELAY
    with Exim(exim_root, relays_for=["127.0.0.1"]) as server:
        assert proved(server, Handoff.PLAIN).state == OPEN_RELAY


def test_an_exim_that_invites_talk_before_the_greeting_is_noticed(exim_root: Path) -> None:
    with Exim(exim_root) as server:
        proof = proved(server, Handoff.PLAIN)
    assert (proof.state, "PIPECONNECT" in proof.detail) == (PROVED, True)


def proved(server: MailServer, handoff: Handoff) -> ProofResult:
    """What the sidecar finds out before it hands over. In a thread, for pytest's plugin has the event loop of this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(prober.prove(Upstream(server.address, handoff)))).result()
