"""A zombie stays cheap: what it sends is bounded from its first byte, replies to it never pile up, and it can't stay for ever."""

from __future__ import annotations

import pytest
from engine.scene import HOST, WALL, Scene, make_context, make_rules
from postwarden_sidecar.engine.actions import Close, Interest, Send
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.dialog import ANSWERS_AT_ONCE
from postwarden_sidecar.rules.settings import Action, Mode, Protocol, ProtocolTest, Rules, Session

CLIENT = "192.0.2.7"
READ = 8192  # bytes that the driver reads at once
ON = ProtocolTest(True, Action.ENFORCE)
LONG_FOOTER = "x" * 400


def in_dialog(rules: Rules) -> Connection:
    """A client that we talk with, its greeting sent."""
    engine = Connection(make_context(rules), CLIENT, 1, "198.51.100.25", 25, 0.0, WALL)
    while (action := engine.next_action()) is not None:
        engine.receive_pass({}, 0.0)
        assert not isinstance(action, Close)
    assert engine.stage == "dialog"
    return engine


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("line", [b"\n", b"NOOP\r\n", b"EHLO x\r\n", b"VRFY x\r\n"])
@pytest.mark.parametrize("limit", [20, 10_000])
def test_replies_do_not_pile_up(mode: Mode, line: bytes, limit: int) -> None:
    """All that waits for the client is one action's: the next is asked for when that is out."""
    session = Session(command_count_limit=limit, reject_footer=LONG_FOOTER)
    engine = in_dialog(make_rules(banner="", mode=mode, protocol=Protocol(ON), session=session))
    commands = READ // len(line)
    engine.receive_bytes(line * commands, 1.0)
    answered = 0
    closed = False
    while (action := engine.next_action()) is not None:
        if isinstance(action, Send):
            assert len(action.data) <= 2 * ANSWERS_AT_ONCE
            answered += sum(reply[3:4] == b" " for reply in action.data.splitlines())
        closed = closed or isinstance(action, Close)
    ended = mode is Mode.ENFORCE and limit < commands
    assert closed == ended
    assert answered == (limit + 1 if ended else commands), "each command is answered once"
    assert closed or engine.interest is Interest.READ


def test_commands_that_wait_for_the_client_to_read_are_no_slow_client() -> None:
    """It is answered when it reads, and its time for the next command runs from its last one."""
    engine = in_dialog(make_rules(banner="", mode=Mode.OBSERVE, protocol=Protocol(ON)))
    engine.receive_bytes(b"\n" * READ, 1.0)
    first = engine.next_action()
    assert isinstance(first, Send)
    assert len(first.data) < 2 * ANSWERS_AT_ONCE
    assert engine.next_deadline() == 301.5
    engine.connection_lost(2.0)
    kinds = []
    while (action := engine.next_action()) is not None:
        kinds.append(type(action).__name__)
    assert kinds == ["Observe", "Close"], "nothing is said to who is gone"


def test_a_client_that_sends_one_byte_a_time_has_its_time_and_no_more() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(reject=(CLIENT,), banner="")))
    while not wire.closed and scene.now < 10_000:
        wire.send(b"x")
        scene.wait(29.0)
    assert wire.received.endswith(f"421 4.4.2 {HOST} Error: timeout exceeded\r\n".encode())
    assert scene.now < 302 + 29


def test_a_chatty_client_has_its_commands_and_no_more() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(reject=(CLIENT,), banner="")))
    while not wire.closed and scene.now < 1_000_000:
        wire.send(b"NOOP\r\n")
        scene.wait(299.0)
    assert wire.received.endswith(f"421 {HOST} Service unavailable - try again later\r\n".encode())
    assert wire.received.count(b"250 2.0.0") == Session().command_count_limit


def test_nothing_is_read_before_the_greeting_is_complete() -> None:
    """It stays in the socket, whose buffer is all that it can fill."""
    engine = Connection(make_context(make_rules()), CLIENT, 1, "198.51.100.25", 25, 0.0, WALL)
    while engine.next_action() is not None:
        engine.receive_pass({}, 0.0)
    assert engine.interest is Interest.PEEK
    assert engine.receive_peek(b"x" * READ, 1.0) == 0
    held = len(engine._screening.facts.said)
    assert held <= READ
    assert engine.interest is not Interest.PEEK, "what it says further is not looked at"
