"""Hang-ups, deadlines and the drain, in every state."""

from __future__ import annotations

import pytest
from engine.recorded_player import log_words
from engine.scene import HOST, WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import Close, HandOff, HandoffOutcome, LookupPass
from postwarden_sidecar.engine.connection import LOOKUP_LIMIT, Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import MAX_EVENTS, EventKind, Record, Verdict
from postwarden_sidecar.engine.screening import TIME_LIMIT_GRACE
from postwarden_sidecar.rules.settings import Action, Protocol, ProtocolTest, Session

TIME_LIMIT = Session().command_time_limit + TIME_LIMIT_GRACE

CLIENT = "192.0.2.7"
TEASER = f"220-{HOST} ESMTP\r\n".encode()
GREETING = f"220 {HOST} ESMTP\r\n".encode()
MTA = f"220 {HOST} ESMTP upstream\r\n".encode()
BUSY = b"421 4.3.2 All server ports are busy\r\n"
NO_RESOURCES = b"421 4.3.2 No system resources\r\n"
DRAINING = b"421 4.3.2 Service currently unavailable\r\n"
IGNORE, ENFORCE, DROP = Action.IGNORE, Action.ENFORCE, Action.DROP


def record_of(wire: Wire) -> Record:
    assert wire.record is not None
    return wire.record


def in_state(name: str) -> tuple[Scene, Wire]:
    """A connection that has come so far."""
    rules = make_rules(reject=("192.0.2.0/28",))
    scene = Scene(HandoffOutcome.UNREACHABLE)
    address = CLIENT if name.startswith("dialog") else "192.0.2.77"
    wire = scene.connect(make_context(rules), address)
    if name == "lookup":
        engine = Connection(make_context(rules), address, 1, "198.51.100.25", 25, 0.0, WALL)
        assert isinstance(engine.next_action(), LookupPass)
        wire.engine, wire.actions, wire.output = engine, [], []
    elif name != "wait":
        scene.wait(6.0)
    if name == "dialog_refused":
        wire.send(b"MAIL FROM:<>\r\nRCPT TO:<b@c>\r\n")
    return scene, wire


@pytest.mark.parametrize("how", ["half_close", "reset"])
@pytest.mark.parametrize(
    ("state", "verdict", "log"),
    [
        ("lookup", Verdict.HANGUP, "HANGUP in tests before SMTP handshake"),
        ("wait", Verdict.HANGUP, "HANGUP in tests before SMTP handshake"),
        ("dialog", Verdict.REJECTED, "HANGUP in tests after SMTP handshake"),
        ("dialog_refused", Verdict.REJECTED, "HANGUP in tests after SMTP handshake"),
        ("last_word", Verdict.DEFERRED, "HANGUP in tests after SMTP handshake"),
    ],
)
def test_a_hang_up_in_any_state_is_noted_and_answered_with_nothing(
    how: str, state: str, verdict: Verdict, log: str
) -> None:
    _, wire = in_state(state)
    before = wire.received
    wire.half_close() if how == "half_close" else wire.reset()
    record = record_of(wire)
    assert record.verdict is verdict
    assert log_words(record)[-2:] == [log, "DISCONNECT"]
    assert wire.received == before
    assert wire.close == Close(linger=False)


def test_a_denied_client_that_hangs_up_is_still_named_denied() -> None:
    _, wire = in_state("dialog")
    wire.half_close()
    record = record_of(wire)
    assert (record.verdict, record.test, record.action) == (Verdict.REJECTED, "access", "Enforce")
    assert record.reason.endswith("spec.access.rules[1], line 1; it hung up before it named a recipient")


@pytest.mark.parametrize(
    ("state", "limit", "reply", "verdict"),
    [
        (
            "dialog",
            TIME_LIMIT,
            b"421 4.4.2 mx.example.org Error: timeout exceeded\r\n",
            Verdict.REJECTED,
        ),
        (
            "last_word",
            TIME_LIMIT,
            b"421 4.4.2 mx.example.org Error: timeout exceeded\r\n",
            Verdict.DEFERRED,
        ),
        ("lookup", LOOKUP_LIMIT, TEASER, None),
    ],
)
def test_a_client_that_says_nothing_is_not_kept(
    state: str, limit: float, reply: bytes, verdict: Verdict | None
) -> None:
    scene, wire = in_state(state)
    scene.wait(limit - 0.01)
    assert wire.record is None
    scene.wait(0.02)
    assert wire.received.endswith(reply)
    assert (wire.record and wire.record.verdict) == verdict


def test_the_time_limit_is_for_a_whole_command() -> None:
    scene, wire = in_state("dialog")
    scene.wait(TIME_LIMIT - 1)
    wire.send(b"NOOP\r\n")
    scene.wait(TIME_LIMIT - 1)
    assert wire.record is None
    wire.send(b"NO")
    scene.wait(2)
    assert log_words(record_of(wire))[-2:] == ["COMMAND TIME LIMIT after NOOP", "DISCONNECT"]


def test_a_timer_that_comes_early_does_nothing() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules()))
    wire.engine.handle_timer(5.9)
    wire.pump()
    assert wire.received == TEASER


def test_a_peek_that_found_nothing_is_no_talk() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(pregreet=DROP)))
    assert wire.engine.receive_peek(b"", 0.5) == 0
    wire.pump()
    scene.wait(6.0)
    assert record_of(wire).verdict is Verdict.PASS_NEW


def test_a_late_answer_of_the_store_changes_nothing() -> None:
    engine = Connection(make_context(make_rules(permit=(CLIENT,))), CLIENT, 1, "198.51.100.25", 25, 0.0, WALL)
    assert isinstance(engine.next_action(), HandOff)
    engine.receive_pass({"pregreet": WALL + 10}, 0.1)
    assert engine.next_action() is None


@pytest.mark.parametrize(
    ("state", "reply", "verdict"),
    [
        ("lookup", DRAINING, Verdict.DEFERRED),
        ("wait", TEASER + GREETING + DRAINING, Verdict.DEFERRED),
        ("dialog", TEASER + GREETING + DRAINING, Verdict.DEFERRED),
        ("last_word", TEASER + GREETING + DRAINING, Verdict.DEFERRED),
    ],
)
def test_draining_defers_whoever_is_with_us(state: str, reply: bytes, verdict: Verdict) -> None:
    scene, wire = in_state(state)
    wire.engine.shut_down(scene.now)
    wire.pump()
    assert wire.received == reply
    assert record_of(wire).verdict is verdict
    assert wire.closed


def test_who_was_refused_before_the_drain_was_rejected() -> None:
    scene, wire = in_state("dialog_refused")
    wire.engine.shut_down(scene.now)
    wire.pump()
    assert wire.received.endswith(DRAINING)
    assert record_of(wire).verdict is Verdict.REJECTED


def test_who_was_refused_in_the_dialogue_before_the_drain_was_rejected_too() -> None:
    """It was fit when the dialogue began, so that no verdict stood then."""
    on = ProtocolTest(True, Action.ENFORCE)
    scene = Scene()
    wire = scene.connect(make_context(make_rules(banner="", protocol=Protocol(on))))
    wire.send(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    wire.engine.shut_down(scene.now)
    wire.pump()
    assert wire.received.endswith(DRAINING)
    record = record_of(wire)
    assert (record.verdict, record.test) == (Verdict.REJECTED, "pipelining")
    assert record.reason == "it sent a command before the reply to the one before, which was not offered"


def drained_at_once(context: Context) -> list[str]:
    engine = Connection(context, CLIENT, 1, "198.51.100.25", 25, 0.0, WALL)
    engine.shut_down(0.0)
    actions = []
    while (action := engine.next_action()) is not None:
        actions.append(getattr(action, "data", type(action).__name__))
    return actions


@pytest.mark.parametrize("permit", [(CLIENT,), ()])
def test_a_new_client_in_a_drain_is_deferred_before_anything_begins(permit: tuple[str, ...]) -> None:
    assert drained_at_once(make_context(make_rules(permit=permit))) == [DRAINING, "Observe", "Close"]
    assert drained_at_once(make_context(None)) == [DRAINING, "Observe", "Close"]


def test_draining_leaves_a_hand_off_alone() -> None:
    wire = Scene(None).connect(make_context(make_rules(permit=(CLIENT,))))
    wire.engine.shut_down(0.5)
    assert wire.engine.next_action() is None
    wire.engine.receive_handoff(HandoffOutcome.DONE, "Plain", 1.0, greeting_ended=True)
    wire.pump()
    assert record_of(wire).handoff == "Plain"


def test_a_record_keeps_its_last_events_and_counts_what_it_leaves_out() -> None:
    _, wire = in_state("dialog")
    wire.send(b"MAIL FROM:<>\r\n" + b"RCPT TO:<b@c>\r\n" * 30)
    record = record_of(wire)
    assert len(record.events) <= MAX_EVENTS
    assert log_words(record)[-2:] == ["COMMAND COUNT LIMIT after RCPT", "DISCONNECT"]
    refused = sum(event.kind is EventKind.REJECT for event in record.events)
    assert refused + record.events_lost == 19
