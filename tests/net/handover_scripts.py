"""Scripts of MTAs and clients for tests of the hand-over in the middle of the dialogue."""

from __future__ import annotations

import random
from dataclasses import replace

from net.bench import SHORT, Client, make_rules
from net.scripted_mta import Conversation, Script
from postwarden_sidecar.handoff.replay import ReplayLimits
from postwarden_sidecar.rules.settings import Action, Handover, Protocol, ProtocolTest, Rules

HANDOFFS = ("Plain", "ProxyV1", "ProxyV2", "Pass")
GREETING = b"220 mta.example ESMTP\r\n"
EHLO_REPLY = b"250-mta.example\r\n250-SIZE 1000\r\n250-CHUNKING\r\n250 STARTTLS\r\n"
HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
OK = b"250 2.1.0 Ok\r\n"
SHORT_REPLAY = replace(SHORT, replay=ReplayLimits(0.6, 0.6, 0.6, 0.6))


def deep_rules(*, pipelining: bool = True, action: Action = Action.ENFORCE) -> Rules:
    """One test after the greeting; the hand-over is inline."""
    on, off = ProtocolTest(True, action), ProtocolTest(False, action)
    protocol = Protocol(
        pipelining=on if pipelining else off,
        non_smtp_command=off if pipelining else on,
        handover=Handover.INLINE,
    )
    return replace(make_rules(wait=0.05), protocol=protocol)


def keep_silent(conversation: Conversation) -> None:
    conversation.hear_all()


def opened(handoff: str, script: Script) -> Script:
    """Behind the PROXY header, or with the passed descriptor."""

    def run(conversation: Conversation) -> None:
        if handoff == "Pass":
            passed, _ = conversation.hear_passed()
            conversation.socket.close()
            with passed:
                script(Conversation(passed))
            return
        if handoff == "ProxyV1":
            assert conversation.hear_line().startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
        elif handoff == "ProxyV2":
            header = b""
            while len(header) < 28:
                header += conversation.hear(28 - len(header))
        script(conversation)

    return run


class Steps:
    """A script: answers each line with the next reply, checks the line, and remembers all."""

    def __init__(
        self, *steps: tuple[bytes, bytes], greeting: bytes = GREETING, then: Script | None = None
    ) -> None:
        self.steps = steps
        self.greeting = greeting
        self.then = then
        self.failures: list[tuple[bytes, bytes]] = []

    def __call__(self, conversation: Conversation) -> None:
        conversation.say(self.greeting)
        for line, reply in self.steps:
            heard = conversation.hear_line()
            if heard != line:
                self.failures.append((line, heard))
                return
            conversation.say(reply)
        if self.then is not None:
            self.then(conversation)


def taken(*more: tuple[bytes, bytes], then: Script | None = None) -> Steps:
    return Steps((HELLO, EHLO_REPLY), (MAIL, OK), (RCPT, b"250 2.1.5 first\r\n"), *more, then=then)


def greet(client: Client, *, hello: bytes = HELLO) -> None:
    assert client.hear_reply() == b"220-mx.example ESMTP\r\n220 mx.example ESMTP\r\n"
    client.say(hello)
    assert client.hear_reply().startswith(b"250")


def ask(client: Client, line: bytes) -> bytes:
    client.say(line)
    return client.hear_reply()


def say_in_pieces(client: Client, data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    while data:
        size = rng.randint(1, 40)
        client.say(data[:size])
        data = data[size:]


BROKEN: dict[str, Script] = {
    "hangs up": lambda conversation: None,
    "silent": keep_silent,
    "garbage": lambda conversation: conversation.say(b"SSH-2.0\r\n"),
    "silent after EHLO": lambda conversation: Steps((HELLO, b""), then=keep_silent)(conversation),
    "hangs up after MAIL": lambda conversation: Steps((HELLO, EHLO_REPLY), (MAIL, b""))(conversation),
    "silent after RCPT": lambda conversation: Steps(
        (HELLO, EHLO_REPLY), (MAIL, OK), (RCPT, b""), then=keep_silent
    )(conversation),
}
