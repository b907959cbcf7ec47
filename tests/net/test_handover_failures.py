"""Hand-over in the middle of the dialogue to an MTA that refuses, breaks or is down; and STARTTLS."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from net.bench import Bench
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
    taken,
)
from net.scripted_mta import Conversation, Script, ScriptedMta

GREETINGS: dict[bytes, tuple[bytes, bool]] = {
    b"421 4.3.2 busy\r\n": (b"421 4.3.2 busy\r\n", False),
    b"450 4.3.2 not now\r\n": (b"450 4.3.2 not now\r\n", True),
    b"554 5.3.2 never\r\n": (b"554 5.3.2 never\r\n", True),
    b"500 5.5.2 what\r\n": (b"450 4.3.0 ", True),
}


@pytest.mark.parametrize("greeting", GREETINGS)
def test_a_greeting_that_refuses_answers_every_recipient(greeting: bytes) -> None:
    expected, goes_on = GREETINGS[greeting]
    script = Steps(greeting=greeting, then=keep_silent)
    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules()) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        for _ in range(3 if goes_on else 1):
            assert ask(client, RCPT).startswith(expected)
        client.say(b"QUIT\r\n" if goes_on else b"")
        client.hear_all()
        bench.host.records()
        assert mta.heard() == b""
        assert len(mta.conversations) == 1
        assert bool(bench.host.faults) == (greeting[:3] == b"500")


@pytest.mark.parametrize("case", BROKEN)
def test_an_mta_that_breaks_leaves_the_session_with_us_and_is_tried_again(case: str) -> None:
    scripts: Iterator[Script] = iter([BROKEN[case], taken()])

    def script(conversation: Conversation) -> None:
        run = next(scripts)
        run(conversation)

    with (
        ScriptedMta(script) as mta,
        Bench(mta.target, rules=deep_rules(), timeouts=SHORT_REPLAY) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        assert ask(client, RCPT).startswith(b"450 4.3.2 ")
        bench.wait_for(lambda: bench.gauge("dialog") == 1)
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        bench.host.records()
        assert bool(bench.host.faults) == (case == "garbage")


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_an_mta_that_is_down_or_not_proved(handoff: str, tmp_path: Path) -> None:
    path = tmp_path / "mta"
    with Bench(f"unix:{path}", handoff, deep_rules()) as bench, bench.connect() as client:
        greet(client)
        ask(client, MAIL)
        assert ask(client, RCPT).startswith(b"450 4.3.2 ")
        route = bench.host.current_route
        bench.host.current_route = replace(route, usable=False)
        assert ask(client, RCPT).startswith(b"450 4.3.2 ")
        bench.host.current_route = route
        with ScriptedMta(opened(handoff, taken()), path):
            assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
            bench.host.records()


def starttls(reply: bytes, then: Script | None = None, *more: tuple[bytes, bytes]) -> Steps:
    return Steps((HELLO, EHLO_REPLY), (b"STARTTLS\r\n", reply), *more, then=then)


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_starttls_ends_the_dialogue(handoff: str, tmp_path: Path) -> None:
    hello = bytes(range(256)) * 3

    def echo(conversation: Conversation) -> None:
        heard = b""
        while len(heard) < len(hello):
            heard += conversation.hear()
        conversation.say(heard[::-1])

    script = starttls(b"220 2.0.0 Ready\r\n", echo)
    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules()) as bench,
    ):
        bench.host.offer("STARTTLS")
        with bench.connect() as client:
            greet(client)
            assert ask(client, b"STARTTLS\r\n") == b"220 2.0.0 Ready\r\n"
            client.say(hello)
            assert client.hear_all() == hello[::-1]
            (record,) = bench.host.records()
            assert (record.verdict, record.handoff) == ("pass_new", handoff)
    assert script.failures == []


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_bytes_behind_starttls_never_reach_the_mta(handoff: str, tmp_path: Path) -> None:
    """They come after the MTA was asked and before its 220 goes to the client."""
    asked, spoken, behind = threading.Event(), threading.Event(), []

    def script(conversation: Conversation) -> None:
        conversation.say(GREETING)
        assert conversation.hear_line() == HELLO
        conversation.say(EHLO_REPLY)
        assert conversation.hear_line() == b"STARTTLS\r\n"
        asked.set()
        assert spoken.wait(5)
        conversation.say(b"220 2.0.0 Ready\r\n")
        behind.append(conversation.hear_line())

    with (
        ScriptedMta(opened(handoff, script), tmp_path / "mta") as mta,
        Bench(mta.target, handoff, deep_rules(pipelining=False)) as bench,
    ):
        bench.host.offer("STARTTLS")
        with bench.connect() as client:
            greet(client)
            client.say(b"STARTTLS\r\n")
            assert asked.wait(5)
            client.say(b"RSET\r\nMAIL FROM:<injected@example>\r\n")
            (session,) = bench.driver._sessions
            arrived, _, _ = select.select([session._client.owned], [], [], 5)
            assert arrived
            spoken.set()
            assert client.hear_all().startswith(b"421 4.3.2 ")
            bench.host.records()
    assert behind == [b""]


@pytest.mark.parametrize("refusal", [b"454 4.7.0 not now\r\n", b"502 5.5.1 never\r\n"])
def test_a_refused_starttls_leaves_the_dialogue_open(refusal: bytes) -> None:
    script = starttls(refusal, None, (MAIL, OK), (RCPT, b"250 2.1.5 first\r\n"))
    with ScriptedMta(script) as mta, Bench(mta.target, rules=deep_rules()) as bench:
        bench.host.offer("STARTTLS")
        with bench.connect() as client:
            greet(client)
            assert ask(client, b"STARTTLS\r\n") == refusal
            assert ask(client, MAIL)[:3] == b"250"
            assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
            bench.host.records()
    assert script.failures == []
