"""Mail to exempt recipients from a refused client, with real sockets: in each hand-off, byte for byte, and what becomes of it when either
side goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from net.bench import Bench, Client, make_rules
from net.handover_scripts import (
    EHLO_REPLY,
    HANDOFFS,
    HELLO,
    MAIL,
    OK,
    SHORT_REPLAY,
    Steps,
    ask,
    opened,
    say_in_pieces,
)
from net.scripted_mta import Conversation, ScriptedMta
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Rules

EXEMPT, OTHER = b"RCPT TO:<postmaster@example.org>\r\n", b"RCPT TO:<b@example.org>\r\n"
DATA, PROMPT, QUEUED = b"DATA\r\n", b"354 go on\r\n", b"250 2.0.0 queued\r\n"
REFUSED = b"550 5.3.2 Service currently unavailable\r\n"
LAST = b"421 4.3.2 One mail a connection is taken from you\r\n"
LOST = b"421 4.3.2 Service currently unavailable\r\n"
LARGE = (
    b"".join(b"%06d ..\0\xff.\r\n" % number for number in range(60_000)) * 12
)  # 10 MB: more than sockets hold


def rules() -> Rules:
    """Clients from loopback are on the deny list."""
    listed = AddressTable.from_networks([("127.0.0.0/8", AccessAction.REJECT, 1)])
    return replace(make_rules(banner="", listed=listed), exempt_recipients=("postmaster@",))


def steps(then: Callable[[Conversation], None]) -> Steps:
    return Steps((HELLO, EHLO_REPLY), (MAIL, OK), (EXEMPT, OK), (DATA, PROMPT), then=then)


def greet(client: Client) -> None:
    assert client.hear_reply().startswith(b"220 ")
    client.say(HELLO)
    assert client.hear_reply().startswith(b"250")
    assert ask(client, MAIL).startswith(b"250")


def hear_until(conversation: Conversation, end: bytes) -> bytes:
    heard = b""
    while not heard.endswith(end):
        line = conversation.hear_line()
        if not line:
            break
        heard += line
    return heard


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_an_exempt_mail_gets_through_byte_for_byte(handoff: str, tmp_path: Path) -> None:
    body = b"Subject: x\r\n\r\n..a\r\n\0\xff\r\n .\r\n.\r\n"
    received: list[bytes] = []

    def take_data(conversation: Conversation) -> None:
        received.append(hear_until(conversation, b"\r\n.\r\n"))
        conversation.say(QUEUED)
        received.append(conversation.hear_all()[len(conversation.heard) :])

    script = steps(take_data)
    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        assert ask(client, OTHER) == REFUSED
        assert ask(client, EXEMPT) == OK
        assert ask(client, OTHER) == REFUSED
        assert bench.gauge("dialog") == 1
        assert ask(client, DATA) == PROMPT
        say_in_pieces(client, body + b"MAIL FROM:<again@example.com>\r\n", 1)
        assert client.hear_reply() == QUEUED
        assert ask(client, b"NOOP\r\n") == LAST
        assert client.hear_all() == b""
        (record,) = bench.host.records()
        assert record.verdict == "exempted"
        assert bench.host.passes == {}
    assert script.failures == []
    assert received == [body, b""]


def test_a_large_mail_gets_through_an_mta_that_reads_late() -> None:
    received: list[bytes] = []
    full = threading.Event()

    def take_data(conversation: Conversation) -> None:
        assert full.wait(5)
        data = bytearray()
        while not data.endswith(b"\r\n.\r\n"):
            data += conversation.socket.recv(1 << 20)
        received.append(bytes(data))
        conversation.say(QUEUED)

    with (
        ScriptedMta(steps(take_data)) as mta,
        Bench(mta.target, rules=rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, EXEMPT)
        assert ask(client, DATA) == PROMPT
        client.socket.settimeout(0.3)
        sent, body = 0, LARGE + b".\r\n"
        try:
            while sent < len(body):
                sent += client.socket.send(body[sent : sent + 65536])
        except TimeoutError:
            pass
        assert sent < len(body), "an MTA that does not read stops the client"
        client.socket.settimeout(10)
        full.set()
        client.say(body[sent:])
        assert client.hear_reply() == QUEUED
        assert ask(client, b"NOOP\r\n") == LAST
        assert client.hear_all() == b""
    assert received == [body]


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_a_bare_newline_closes_the_mtas_side_without_the_dot(handoff: str, tmp_path: Path) -> None:
    received: list[bytes] = []

    def take_data(conversation: Conversation) -> None:
        received.append(hear_until(conversation, b"\r\n.\r\n"))

    with (
        ScriptedMta(opened(handoff, steps(take_data)), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, EXEMPT)
        ask(client, DATA)
        client.say(b"one\r\n")
        client.say(b"two\r\n.\nMAIL FROM:<smuggled@example.com>\r\n.\r\n")
        assert client.hear_all() == b"550 5.5.2 Error: bare <CR> or <LF> in the data\r\n"
        assert bench.host.records()[0].verdict == "rejected"
    assert received == [b"one\r\n"]


def test_a_client_that_goes_within_the_data_leaves_no_mail() -> None:
    received: list[bytes] = []

    def take_data(conversation: Conversation) -> None:
        received.append(hear_until(conversation, b"\r\n.\r\n"))

    for leave in (Client.end, Client.reset):
        with (
            ScriptedMta(steps(take_data)) as mta,
            Bench(mta.target, rules=rules()) as bench,
            bench.connect() as client,
        ):
            greet(client)
            ask(client, EXEMPT)
            ask(client, DATA)
            client.say(b"half\r\n.")
            bench.wait_for(lambda: bench.driver.open_connections == 1)
            leave(client)
            assert "hung up" in bench.host.records()[0].reason
    assert [b"\r\n.\r\n" in heard for heard in received] == [False, False]


def test_a_client_that_half_closes_behind_the_dot_hears_what_became_of_its_mail() -> None:
    closed = threading.Event()

    def take_data(conversation: Conversation) -> None:
        hear_until(conversation, b"\r\n.\r\n")
        assert closed.wait(5)
        conversation.say(QUEUED)

    with (
        ScriptedMta(steps(take_data)) as mta,
        Bench(mta.target, rules=rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, EXEMPT)
        ask(client, DATA)
        client.say(b"x\r\n.\r\n")
        client.end()
        closed.set()
        assert client.hear_all() == QUEUED
        assert bench.host.records()[0].verdict == "exempted"


@pytest.mark.parametrize("word", [b"", b"421 4.3.2 bye\r\n", b"552 5.3.4 too big\r\n", b"SSH\r\n"])
def test_an_mta_that_ends_it_within_the_data(word: bytes) -> None:
    def refuse(conversation: Conversation) -> None:
        assert conversation.hear_line() == b"one\r\n"
        conversation.say(word)

    expected = {b"552": word + LAST, b"421": word}.get(word[:3], LOST)
    with (
        ScriptedMta(steps(refuse)) as mta,
        Bench(mta.target, rules=rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, EXEMPT)
        ask(client, DATA)
        client.say(b"one\r\n")
        assert client.hear_all() == expected
        assert bench.host.records()[0].verdict == ("exempted" if word[:3] == b"552" else "deferred")


@pytest.mark.parametrize("target", ["127.0.0.1:1", "unix:/nonexistent/mta"])
def test_an_mta_that_can_not_be_reached_leaves_the_dialogue_open(target: str) -> None:
    with Bench(target, rules=rules(), timeouts=SHORT_REPLAY) as bench, bench.connect() as client:
        greet(client)
        assert ask(client, EXEMPT) == b"450 4.3.2 Service currently unavailable\r\n"
        assert ask(client, OTHER) == REFUSED
        assert ask(client, b"QUIT\r\n").startswith(b"221")
        bench.host.records()


def test_a_421_between_two_recipients_is_no_reply_to_the_second() -> None:
    """It is told with the client's next request: the first recipient's mail can't be had any more."""
    asked, told = threading.Event(), threading.Event()

    def leave(conversation: Conversation) -> None:
        assert asked.wait(5)
        conversation.say(b"421 4.4.2 timeout\r\n")
        assert conversation.hear() == b""  # the worker has heard it, for it closes
        told.set()

    script = Steps((HELLO, EHLO_REPLY), (MAIL, OK), (EXEMPT, OK), then=leave)
    with ScriptedMta(script) as mta, Bench(mta.target, rules=rules()) as bench, bench.connect() as client:
        greet(client)
        assert ask(client, EXEMPT) == OK
        asked.set()
        assert told.wait(5)
        assert ask(client, b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"
        assert bench.gauge("dialog") == 1
        assert ask(client, EXEMPT) == LOST
        assert client.hear_all() == b""
        bench.host.records()


def test_a_drain_lets_a_mail_that_is_on_its_way_end() -> None:
    drained, inside = threading.Event(), threading.Event()

    def take_data(conversation: Conversation) -> None:
        inside.set()
        hear_until(conversation, b"\r\n.\r\n")
        conversation.say(QUEUED)

    with ScriptedMta(steps(take_data)) as mta, Bench(mta.target, rules=rules()) as bench:
        with bench.connect() as client:
            greet(client)
            ask(client, EXEMPT)
            ask(client, DATA)
            assert inside.wait(5)
            bench.call(lambda: bench.driver.drain(5.0, drained.set))
            client.say(b"x\r\n.\r\n")
            assert client.hear_all() == QUEUED + b"421 4.3.2 Service currently unavailable\r\n"
        assert drained.wait(5)
