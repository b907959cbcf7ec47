"""The table of the hand-over in the middle, over real sockets: what an MTA answers at each step, in which way, and what the client hears;
and that no mail is lost by it: unless the MTA itself said no for good, the same client gets through as soon as the MTA is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from net.bench import Bench
from net.handover_scripts import (
    EHLO_REPLY,
    GREETING,
    HELLO,
    MAIL,
    OK,
    RCPT,
    SHORT_REPLAY,
    ask,
    deep_rules,
    greet,
    taken,
)
from net.scripted_mta import Conversation, Script, ScriptedMta
from postwarden_sidecar.net.timeouts import Timeouts

STEPS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    # What is said, and the good reply, up to the step that is answered otherwise.
    "greeting": (),
    "EHLO": ((b"", GREETING),),
    "MAIL": ((b"", GREETING), (HELLO, EHLO_REPLY)),
    "RCPT": ((b"", GREETING), (HELLO, EHLO_REPLY), (MAIL, OK)),
}
ASKED = {"greeting": b"", "EHLO": HELLO, "MAIL": MAIL, "RCPT": RCPT}
SLOW = 0.005  # seconds between two bytes
WORDS = {
    "4xx": b"451 4.7.1 come back\r\n",
    "5xx": b"550 5.7.1 never\r\n",
    "421": b"421 4.3.2 shutting down\r\n",
    "500": b"500 5.5.2 what\r\n",
    "503": b"503 5.5.1 not now\r\n",
    "many lines": b"550-5.7.1 never\r\n550-5.7.1 nor\r\n550 5.7.1 ever\r\n",
}


def trickle(conversation: Conversation, data: bytes) -> None:
    for byte in data:
        conversation.say(bytes((byte,)))
        time.sleep(SLOW)


def never_ending(conversation: Conversation) -> None:
    try:
        for _ in range(100):
            trickle(conversation, b"250-x\r\n"[:6])
    except OSError:
        return


ODD: dict[str, Callable[[Conversation], object]] = {
    "garbage": lambda conversation: conversation.say(b"SSH-2.0-OpenSSH\r\n"),
    "bytes": lambda conversation: conversation.say(bytes(range(256)) * 4),
    "an endless line": lambda conversation: conversation.say(b"2" * 5000),
    "an endless reply": lambda conversation: conversation.say(b"250-x\r\n" * 500),
    "two replies": lambda conversation: conversation.say(b"250 ok\r\n250 ok\r\n"),
    "half a reply": lambda conversation: conversation.say(b"250 ok"),
    "a reply that never ends": never_ending,
    "nothing": lambda conversation: conversation.hear_all(),
    "a hang-up": lambda conversation: None,
}


def at(step: str, then: Callable[[Conversation], object]) -> Script:
    """An MTA that is well up to the step, and then is not."""

    def run(conversation: Conversation) -> None:
        for line, reply in STEPS[step]:
            assert not line or conversation.hear_line() == line
            conversation.say(reply)
        if ASKED[step]:
            assert conversation.hear_line() == ASKED[step]
        then(conversation)

    return run


def mta_of(*scripts: Script) -> ScriptedMta:
    order: Iterator[Script] = iter(scripts)

    def script(conversation: Conversation) -> None:
        run = next(order)
        run(conversation)

    return ScriptedMta(script)


def expected(step: str, case: str) -> tuple[bytes, bool]:
    """The client's reply to RCPT, and whether the connection goes on."""
    if step == "RCPT" or case in ("4xx", "5xx", "many lines"):
        return WORDS[case], True
    if case == "421":
        return WORDS[case], False
    return b"450 4.3.0 ", True


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize("slowly", [False, True])
def test_an_mta_that_answers_with_a_refusal(step: str, case: str, slowly: bool) -> None:
    reply, goes_on = expected(step, case)

    def refuse(conversation: Conversation) -> None:
        trickle(conversation, WORDS[case]) if slowly else conversation.say(WORDS[case])
        if goes_on:
            conversation.hear_all()

    timeouts = Timeouts() if slowly else SHORT_REPLAY
    with (
        mta_of(at(step, refuse)) as mta,
        Bench(mta.target, rules=deep_rules(), timeouts=timeouts) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        client.say(RCPT)
        if reply.startswith(b"450 4.3.0"):
            assert client.hear_reply().startswith(reply)
        else:
            assert client.hear_reply() == reply
        if not goes_on:
            assert client.hear_all() == b""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("case", ODD)
def test_an_mta_that_breaks_loses_no_mail(step: str, case: str) -> None:
    """450 to this attempt; the next one, in the same session, gets through."""
    with (
        mta_of(at(step, ODD[case]), taken((b"QUIT\r\n", b"221 2.0.0 bye\r\n"))) as mta,
        Bench(mta.target, rules=deep_rules(), timeouts=SHORT_REPLAY) as bench,
        bench.connect() as client,
    ):
        greet(client)
        ask(client, MAIL)
        assert ask(client, RCPT) == b"450 4.3.2 Service currently unavailable\r\n"
        assert ask(client, RCPT) == b"250 2.1.5 first\r\n"
        assert ask(client, b"QUIT\r\n") == b"221 2.0.0 bye\r\n"
        assert len(mta.conversations) == 2
