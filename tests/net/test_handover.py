"""Hand-over in the middle of the dialogue, with real sockets: what the MTA hears and when, and what the client is told."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from net.bench import Bench, Client
from net.handover_scripts import (
    BROKEN,
    EHLO_REPLY,
    GREETING,
    HANDOFFS,
    HELLO,
    MAIL,
    OK,
    RCPT,
    SHORT_REPLAY,
    Steps,
    ask,
    deep_rules,
    greet,
    keep_silent,
    opened,
    say_in_pieces,
    taken,
)
from net.scripted_mta import Conversation, Script, ScriptedMta
from postwarden_sidecar.net.timeouts import Timeouts

# All that servers have taken for the end of the data (or not), and dots that have to stay as they are.
SMUGGLING = b"".join(
    b"text" + end
    for end in (
        b"\n.\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n..\r\n",
        b"\n\n.",
        b"\0\xff\r",
    )
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_a_session_goes_on_with_the_mta_byte_for_byte(handoff: str, seed: int, tmp_path: Path) -> None:
    body = SMUGGLING + b"\r\n.\r\n"
    received: list[bytes] = []

    def take_data(conversation: Conversation) -> None:
        heard = b""
        while not heard.endswith(body):
            data = conversation.hear_line()
            assert data
            heard += data
        received.append(heard)
        conversation.say(b"250 2.0.0 queued\r\n")
        assert conversation.hear_line() == b"QUIT\r\n"
        conversation.say(b"221 2.0.0 bye\r\n")

    second = b"RCPT TO:<c@example.org>\r\n"
    script = taken((second, b"550 5.1.1 no such user\r\n"), (b"DATA\r\n", b"354 go on\r\n"), then=take_data)
    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        assert ask(client, MAIL) == b"250 2.1.0 Ok\r\n"
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        assert bench.gauge("relay") == 1
        assert ask(client, second) == b"550 5.1.1 no such user\r\n"
        assert ask(client, b"DATA\r\n") == b"354 go on\r\n"
        say_in_pieces(client, body, seed)
        assert client.hear_reply() == b"250 2.0.0 queued\r\n"
        assert ask(client, b"QUIT\r\n") == b"221 2.0.0 bye\r\n"
        assert client.hear_all() == b""
        (record,) = bench.host.records()
        assert (record.verdict, record.handoff) == ("pass_new", handoff)
        assert bench.host.passes, "the pass is stored"
        assert bench.host.offered == ("SIZE 1000", "CHUNKING", "STARTTLS")
    assert script.failures == []
    assert received == [body]


def test_what_was_read_behind_rcpt_follows_its_reply_unchanged() -> None:
    """The test of pipelining is off: input behind RCPT is nothing that we mind."""
    behind = b"RCPT TO:<c@example.org>\r\nBDAT 7 LAST\r\na\n.\n\rb"
    early: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        for reply in (EHLO_REPLY, OK):
            conversation.hear_line()
            conversation.say(reply)
        assert conversation.hear_line() == RCPT
        early.append(bytes(select.select([conversation.socket], [], [], 0.05)[0] != []))
        conversation.say(b"250 2.1.5 first\r\n")
        heard = b""
        while len(heard) < len(behind):
            heard += conversation.hear()
        early.append(heard)
        conversation.say(b"250 2.1.5 second\r\n250 2.0.0 queued\r\n")

    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules(pipelining=False)) as bench,
        bench.connect() as client,
    ):
        greet(client)
        client.say(MAIL + RCPT + behind)
        said = client.hear_all()
        assert said == b"250 2.1.0 Ok\r\n250 2.1.5 first\r\n250 2.1.5 second\r\n250 2.0.0 queued\r\n"
    assert early == [b"", behind]


def test_a_client_may_pipeline_once_the_mta_has_it() -> None:
    behind = b"RCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\nQUIT\r\n"

    def script(conversation: Conversation) -> None:
        heard = b""
        while len(heard) < len(behind):
            heard += conversation.hear()
        assert heard == behind
        conversation.say(b"250 1\r\n250 2\r\n221 bye\r\n")

    with (
        ScriptedMta(taken(then=script)) as mta,
        Bench(mta.target, rules=deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        ask(client, RCPT)
        client.say(behind)
        assert client.hear_all() == b"250 1\r\n250 2\r\n221 bye\r\n"


@pytest.mark.parametrize("handoff", HANDOFFS)
@pytest.mark.parametrize("refusal", [b"450 4.7.1 later\r\n", b"550 5.7.1 never\r\n", b"503 5.5.1 what\r\n"])
def test_a_refused_mail_answers_its_recipients_and_no_others(
    handoff: str, refusal: bytes, tmp_path: Path
) -> None:
    script = Steps((HELLO, EHLO_REPLY), (MAIL, refusal), (MAIL, OK), (RCPT, b"250 2.1.5 first\r\n"))
    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        answers = {ask(client, RCPT) for _ in range(3)}
        assert {answer[:10] for answer in answers} == {
            b"450 4.3.0 " if refusal[:3] == b"503" else refusal[:10]
        }
        assert ask(client, b"RSET\r\n")[:3] == b"250"
        ask(client, MAIL)
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        bench.host.records()
        assert len(mta.conversations) == 1, "the MTA's session was kept"
    assert script.failures == []


def test_a_kept_session_ends_with_the_client() -> None:
    ended = threading.Event()

    def wait_for_end(conversation: Conversation) -> None:
        assert conversation.hear_line() == b""
        ended.set()

    script = Steps((HELLO, EHLO_REPLY), (MAIL, b"550 5.7.1 never\r\n"), then=wait_for_end)
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        assert ask(client, RCPT) == b"550 5.7.1 never\r\n"
        ask(client, b"QUIT\r\n")
        assert ended.wait(5)


def test_data_after_a_refused_mail_has_no_valid_recipients() -> None:
    script = Steps((HELLO, EHLO_REPLY), (MAIL, b"550 5.7.1 never\r\n"), then=keep_silent)
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        ask(client, RCPT)
        assert ask(client, b"DATA\r\n").startswith(b"554 5.5.1 ")


@pytest.mark.parametrize("go", [Client.reset, Client.end], ids=["RST", "FIN"])
def test_a_client_that_goes_while_the_mta_is_asked(go: Callable[[Client], None]) -> None:
    asked, gone = threading.Event(), threading.Event()

    def wait_for_end(conversation: Conversation) -> None:
        asked.set()
        assert conversation.hear_line() == b""
        gone.set()

    script = Steps((HELLO, EHLO_REPLY), (MAIL, b""), then=wait_for_end)
    with ScriptedMta(script) as mta, Bench(mta.target, rules=deep_rules(), timeouts=Timeouts()) as bench:
        client = bench.connect()
        greet(client)
        ask(client, MAIL)
        client.say(RCPT)
        assert asked.wait(5)
        go(client)
        assert gone.wait(5)
        bench.await_idle()
        assert len(bench.host.records()) == 1
        client.socket.close()


def test_a_client_that_has_said_all_and_ended_is_served() -> None:
    script = taken((b"QUIT\r\n", b"221 2.0.0 bye\r\n"))
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules(pipelining=False)) as bench,
        bench.connect() as client,
    ):
        greet(client)
        client.say(MAIL + RCPT + b"QUIT\r\n")
        client.end()
        assert client.hear_all() == b"250 2.1.0 Ok\r\n250 2.1.5 first\r\n221 2.0.0 bye\r\n"


def test_a_drain_lets_the_hand_over_finish_and_ends_a_dialogue_that_goes_on() -> None:
    asked, drained = threading.Event(), threading.Event()

    def refuse(conversation: Conversation) -> None:
        assert conversation.hear_line() == MAIL
        asked.set()
        assert drained.wait(5)
        conversation.say(b"550 5.7.1 never\r\n")

    with (
        ScriptedMta(Steps((HELLO, EHLO_REPLY), then=refuse)) as mta,
        Bench(mta.target, rules=deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        client.say(RCPT)
        assert asked.wait(5)
        bench.call(lambda: bench.driver.drain(10.0, drained.set))
        bench.wait_for(lambda: bench.gauge("handoff") == 1)
        drained.set()
        assert client.hear_all() == b"550 5.7.1 never\r\n421 4.3.2 Service currently unavailable\r\n"


def test_no_descriptor_is_left_behind_and_the_gauges_are_zero(tmp_path: Path) -> None:
    """A Bench checks the gauges at its end; descriptors are counted here, over all ways in which a hand-over ends."""
    endings: list[Script] = [
        taken(),
        *BROKEN.values(),
        Steps((HELLO, EHLO_REPLY), (MAIL, b"550 5.7.1 no\r\n")),
    ]
    scripts: Iterator[Script] = iter([opened("Pass", ending) for ending in endings])

    def script(conversation: Conversation) -> None:
        run = next(scripts)
        run(conversation)

    with (
        ScriptedMta(script, tmp_path / "mta") as mta,
        Bench(mta.target, "Pass", deep_rules(), timeouts=SHORT_REPLAY) as bench,
    ):
        for _ in endings:
            with bench.connect() as client:
                greet(client)
                ask(client, MAIL)
                ask(client, RCPT)
            bench.await_idle()
            bench.host.passes.clear()
            assert bench.driver._descriptors.opened == 0
