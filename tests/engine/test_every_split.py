"""A whole connection with every test on: however its input is cut, verdict, replies, record, what is stored and what the MTA hears are the
same. Two tests are about time, and only they may tell pieces apart: talk before the greeting, and commands sent without
waiting for the reply; so clients that wait have each of their lines cut, and with pipelining off the whole stream is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from engine.scene import Scene, Wire, make_context, make_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_sidecar.engine.actions import DnsblAnswer, HandoffOutcome, HandoverOutcome
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import (
    Action,
    Dnsbl,
    DnsblSite,
    Handover,
    Mode,
    Protocol,
    ProtocolTest,
    Rules,
    Session,
)
from strategies import every_split, splits

PROXY, CLIENT = "10.0.0.1", "203.0.113.5"
Cut = Callable[[bytes], list[bytes]]
Handed = tuple[HandoverOutcome, bytes]

V1 = b"PROXY TCP4 203.0.113.5 192.0.2.25 4001 25\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x05\xc0\0\x02\x19\x0f\xa1\0\x19\x04\0\x01x"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
EHLO, HELO = b"EHLO c.example\r\n", b"HELO c.example\n"
MAIL, RCPT = b"MAIL FROM:<a@example.com> SIZE=10\r\n", b"RCPT TO:<b@example.org>\r\n"
STARTTLS, QUIT, DATA = b"STARTTLS\r\n", b"QUIT\r\n", b"DATA\r\n"
DOT = (
    b"Subject: x\r\n\r\nbody\n.\r\n.\r\nstill\r\n.\r\n"  # with ends of data that are none, behind CRLF and LF
)
DONE: Handed = (HandoverOutcome.DONE, b"")
LATER: Handed = (HandoverOutcome.ANSWERED, b"450 4.3.2 Service currently unavailable\r\n")
NEVER: Handed = (HandoverOutcome.ANSWERED, b"550-5.7.1 never\r\n550 5.7.1 ever\r\n")
NO_TLS: Handed = (HandoverOutcome.ANSWERED, b"454 4.7.0 TLS not available\r\n")
CLOSING: Handed = (HandoverOutcome.CLOSE, b"421 4.3.2 shutting down\r\n")


def rules(*, pipelining: bool = True, action: Action = Action.ENFORCE, **fields: Any) -> Rules:
    """Every test is on; all that is not a block list's word is the client's own doing."""
    on = ProtocolTest(True, action)
    protocol = Protocol(
        replace(on, enabled=pipelining), on, on, handover=fields.pop("handover", Handover.INLINE)
    )
    site = DnsblSite("bl.example.", "bl.example.", None, 1, "bl.example")
    return make_rules(
        trusted=("10.0.0.0/24",), protocol=protocol, dnsbl=Dnsbl(Action.DROP, sites=(site,)), **fields
    )


@dataclass(frozen=True)
class Client:
    """lines: what it says after the greeting, each with the way in which a hand-over at it would end. header: of its proxy, or b"". early:
    it talks on behind it without waiting for the greeting."""

    lines: tuple[tuple[bytes, Handed], ...]
    header: bytes = b""
    early: bool = False

    @property
    def stream(self) -> bytes:
        return b"".join(line for line, _ in self.lines)


def play(client: Client, policy: Rules, cut: Cut) -> dict[str, Any]:
    """All that came of it."""
    scene = Scene(HandoffOutcome.DONE)
    answer = DnsblAnswer("bl.example.", (), 300.0, False, "not_listed", 0.0, 0.0)
    scene.answers = lambda address: [(0.5, answer)]
    wire = scene.connect(make_context(policy), PROXY if client.header else CLIENT)
    if client.early:
        send(wire, client.header + client.stream, cut)
        scene.wait(6.0)
    else:
        if client.header:
            send(wire, client.header, cut)
        scene.wait(6.0)
        for line, scene.handover in client.lines:
            send(wire, line, cut)
    wire.half_close()
    record = wire.record
    return {
        "received": wire.received,
        "heard": wire.heard_by_mta,
        "passes": scene.passes,
        "closed": wire.closed,
        "record": record,
    }


def send(wire: Wire, data: bytes, cut: Cut) -> None:
    for piece in cut(data):
        wire.send(piece)


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def in_two(at: int) -> Cut:
    return lambda data: [data[:at], data[at:]]


def behind(header: bytes, pieces: list[bytes]) -> Cut:
    """The header as it is, the rest as these pieces."""
    return lambda data: [data] if data == header else pieces


def said(*lines: bytes, handed: Handed = DONE) -> tuple[tuple[bytes, Handed], ...]:
    return tuple((line, handed) for line in lines)


WAITING = {
    "mail": Client(said(EHLO, MAIL, RCPT, DATA, DOT, QUIT)),
    "through v1": Client(said(EHLO, MAIL, RCPT, DATA, DOT, QUIT), V1),
    "through v2": Client(said(HELO, MAIL, RCPT, QUIT), V2),
    "LOCAL": Client(said(EHLO, MAIL, RCPT, QUIT), LOCAL),
    "STARTTLS": Client(said(EHLO, STARTTLS)),
    "STARTTLS refused": Client((*said(EHLO), (STARTTLS, NO_TLS), *said(MAIL, RCPT, QUIT)), V1),
    "STARTTLS that ends": Client((*said(EHLO), (STARTTLS, CLOSING))),
    "recipient refused, then taken": Client(
        (*said(EHLO, MAIL), (RCPT, NEVER), (RCPT, LATER), (RCPT, DONE), *said(QUIT))
    ),
    "every recipient refused": Client((*said(EHLO, MAIL), (RCPT, NEVER), (RCPT, NEVER), *said(DATA))),
    "the MTA closes": Client((*said(EHLO, MAIL), (RCPT, CLOSING))),
    "AUTH": Client(said(EHLO, b"AUTH PLAIN AGEAYg==\r\n", b"AGEAYg==\r\n", QUIT), V2),
    "BDAT": Client(said(EHLO, MAIL, b"BDAT 6 LAST\r\n", b"hello\r"), V1),
    "BDAT with its chunk": Client(said(EHLO, MAIL, b"BDAT 7 LAST\r\nhello\r\n")),
    "bare newline": Client(said(EHLO, b"NOOP\n", MAIL, RCPT, QUIT), V1),
    "header as a command": Client(said(EHLO, b"Subject: x\r\n", MAIL, RCPT, QUIT)),
    "HTTP": Client(said(b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n")),
    "TLS at once": Client(said(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n")),
    "binary": Client(said(b"EHLO \xff\0\xfe\r\n", b"M\xc3\x28IL FROM:<a>\r\n", b"\0\r\n", QUIT)),
    "CR in the middle": Client(said(b"EHLO a\rb\r\r\n", b"MAIL FROM:<a\r@b>\r\n", RCPT, QUIT)),
    "too long a line": Client(said(EHLO, b"NOOP " + b"x" * 200 + b"\r\n", QUIT)),
    "too many commands": Client(said(*[b"NOOP\r\n"] * 8, QUIT)),
    "nothing": Client(()),
    "half a line": Client(said(EHLO, b"MAIL FR")),
}
POLICIES = {
    "enforce": rules(session=Session(line_length_limit=120, command_count_limit=6)),
    "drop": rules(action=Action.DROP, session=Session(reject_footer="help", soft_fail=True)),
    "reconnect": rules(handover=Handover.RECONNECT),
    "observe": rules(mode=Mode.OBSERVE, session=Session(line_length_limit=120, command_count_limit=6)),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("client", WAITING)
def test_lines_of_a_client_that_waits_may_come_byte_by_byte(client: str, policy: str) -> None:
    expected = play(WAITING[client], POLICIES[policy], whole)
    assert play(WAITING[client], POLICIES[policy], byte_by_byte) == expected


@pytest.mark.parametrize("client", WAITING)
def test_each_line_of_a_client_that_waits_may_be_cut_anywhere(client: str) -> None:
    policy = POLICIES["enforce"]
    expected = play(WAITING[client], policy, whole)
    longest = max(
        (len(line) for line in (WAITING[client].header, *(line for line, _ in WAITING[client].lines))),
        default=0,
    )
    for at in range(1, longest):
        assert play(WAITING[client], policy, in_two(at)) == expected


STREAMS = {
    "mail": Client(said(EHLO + MAIL + RCPT + DATA + DOT + QUIT)),
    "through v1": Client(said(HELO.replace(b"\n", b"\r\n") + MAIL + RCPT + RCPT + DATA + DOT + QUIT), V1),
    "recipients refused": Client(said(EHLO + MAIL + RCPT + RCPT + QUIT, handed=NEVER), V2),
    "the MTA closes": Client(said(EHLO + MAIL + RCPT + RCPT + QUIT, handed=CLOSING)),
    "BDAT": Client(said(EHLO + MAIL + b"BDAT 7 LAST\r\nhello\r\n" + QUIT)),
    "reset": Client(said(EHLO + MAIL + b"RSET\r\n" + MAIL + RCPT + DATA + DOT + QUIT)),
    "bare newline": Client(said(EHLO + b"NOOP\n" + MAIL + RCPT + QUIT)),
}


@pytest.mark.parametrize("client", STREAMS)
@pytest.mark.parametrize("mode", Mode)
def test_where_pipelining_is_off_the_whole_stream_may_be_cut_anywhere(client: str, mode: Mode) -> None:
    policy = rules(pipelining=False, mode=mode)
    expected = play(STREAMS[client], policy, whole)
    for pieces in every_split(STREAMS[client].stream):
        assert play(STREAMS[client], policy, behind(STREAMS[client].header, pieces)) == expected


def test_bytes_behind_starttls_end_the_session_however_they_are_cut() -> None:
    """Unless they come after the request was given to the MTA: then the driver looks for them."""
    policy = rules(pipelining=False)
    words = EHLO + STARTTLS + MAIL
    for at in range(1, len(words)):
        scene = Scene()
        scene.handover = None
        wire = scene.connect(make_context(policy), CLIENT)
        scene.wait(6.0)
        wire.send(words[:at])
        wire.send(words[at:])
        told = wire.received.endswith(b"421 4.3.2 No system resources\r\n")
        assert told != (wire.replay is not None)
        assert wire.replay is None or wire.replay.rest == b""
        assert b"250 2.1.0" not in wire.received, "MAIL behind STARTTLS was answered"


@pytest.mark.parametrize("header", [b"", V1, V2])
@pytest.mark.parametrize("action", Action)
def test_early_talk_is_early_however_it_is_cut(header: bytes, action: Action) -> None:
    """What of it was seen first is in the log; verdict, replies and what the MTA hears do not hang on it."""
    client = Client(said(EHLO + MAIL + RCPT + QUIT), header, early=True)
    policy = rules(pipelining=False, pregreet=action)
    expected = play(client, policy, whole)
    for pieces in every_split(header + client.stream):
        found = play(client, policy, behind(b"", pieces))
        for key in ("received", "heard", "passes", "closed"):
            assert found[key] == expected[key]
        for key in ("verdict", "test", "action", "reason", "helo", "sender", "recipient"):
            assert getattr(found["record"], key) == getattr(expected["record"], key), key
    assert expected["record"].verdict in (
        Verdict.TOLERATED,
        Verdict.REJECTED,
        Verdict.DROPPED,
        Verdict.PASS_NEW,
    )


# Any client that waits

HANDED = st.sampled_from([DONE, LATER, NEVER, NO_TLS, CLOSING])
LINES = st.sampled_from(
    [
        EHLO,
        HELO,
        MAIL,
        RCPT,
        STARTTLS,
        DATA,
        QUIT,
        b"RSET\r\n",
        b"NOOP\r\n",
        b"NOOP\n",
        b"VRFY a\r\n",
        b"AUTH LOGIN\r\n",
        b"BDAT 3\r\nabc",
        b"X: y\r\n",
        b"mail from:<>\r\n",
        b"\r\n",
        b"NOOP" + b" " * 150 + b"\r\n",
    ]
) | st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"") + b"\r\n")
CLIENTS = st.builds(
    Client,
    st.lists(st.tuples(LINES, HANDED), max_size=9).map(tuple),
    st.sampled_from([b"", V1, V2, LOCAL]),
)


@given(CLIENTS, st.sampled_from(sorted(POLICIES)), st.data())
@settings(max_examples=150)
def test_no_cut_of_any_waiting_clients_lines_makes_a_difference(
    client: Client, policy: str, data: st.DataObject
) -> None:
    expected = play(client, POLICIES[policy], whole)
    assert play(client, POLICIES[policy], lambda line: data.draw(splits(line))) == expected
