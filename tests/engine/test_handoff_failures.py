"""Hand-offs that fail: the client is told to come back, and the greeting is whole."""

from __future__ import annotations

import pytest
from engine.scene import HOST, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import HandoffOutcome
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.rules.settings import Action, Protocol, ProtocolTest

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


@pytest.mark.parametrize("outcome", [o for o in HandoffOutcome if o is not HandoffOutcome.DONE])
def test_a_failed_hand_off_without_a_teaser_is_told_at_once(outcome: HandoffOutcome) -> None:
    wire = Scene(outcome).connect(make_context(make_rules(permit=(CLIENT,))))
    assert wire.received == BUSY
    record = record_of(wire)
    assert (record.verdict, record.handoff) == (Verdict.DEFERRED, "")
    assert record.reason == f"the hand-off failed ({outcome.value}): down"


@pytest.mark.parametrize("outcome", [o for o in HandoffOutcome if o is not HandoffOutcome.DONE])
@pytest.mark.parametrize("first", [b"EHLO x\r\n", b"QUIT\r\n", b"\n", b"x" * 3000])
def test_a_failed_hand_off_after_a_teaser_ends_the_greeting_and_answers_the_first_command(
    outcome: HandoffOutcome, first: bytes
) -> None:
    scene = Scene(outcome)
    wire = scene.connect(make_context(make_rules()))
    scene.wait(6.0)
    assert wire.received == TEASER + GREETING
    for at in range(len(first)):
        wire.send(first[at : at + 1])
    answer = b"221 2.0.0 Bye\r\n" if first == b"QUIT\r\n" else NO_RESOURCES
    assert wire.received == TEASER + GREETING + answer
    assert record_of(wire).verdict is Verdict.DEFERRED
    assert wire.closed


@pytest.mark.parametrize("detail", ["554 5.3.2 go away", "421 later", "450 4.3.2 not now"])
def test_a_greeting_of_the_mta_that_refuses_is_its_word(detail: str) -> None:
    at_once = Scene(HandoffOutcome.REFUSED, detail).connect(make_context(make_rules(permit=(CLIENT,))))
    assert at_once.received == f"{detail}\r\n".encode()
    scene = Scene(HandoffOutcome.REFUSED, detail)
    wire = scene.connect(make_context(make_rules()))
    scene.wait(6.0)
    wire.send(b"EHLO x\r\n")
    assert wire.received == TEASER + GREETING + f"{detail}\r\n".encode()


@pytest.mark.parametrize(
    "detail", ["", "220 hello", "554", "554 a\r\n250 b", "554 \xe9", "554 " + "x" * 600, "no"]
)
def test_what_is_no_refusal_never_reaches_the_client(detail: str) -> None:
    wire = Scene(HandoffOutcome.REFUSED, detail).connect(make_context(make_rules(permit=(CLIENT,))))
    assert wire.received == BUSY


def test_an_unproved_mta_refuses_nobody_for_good() -> None:
    detail = "554 5.7.1 said in a probe"
    wire = Scene(HandoffOutcome.NOT_PROVED, detail).connect(make_context(make_rules(permit=(CLIENT,))))
    assert wire.received == BUSY


def test_a_hand_off_that_fails_after_the_mtas_220_is_told_at_once() -> None:
    scene = Scene(None)
    wire = scene.connect(make_context(make_rules()))
    scene.wait(6.0)
    assert wire.engine.stage == "handoff"
    assert wire.engine.next_deadline() is None
    wire.engine.receive_handoff(HandoffOutcome.WRONG_ANSWER, "two replies", 6.1, greeting_ended=True)
    wire.pump()
    assert wire.received == TEASER + NO_RESOURCES
    assert wire.closed


def test_a_client_that_is_gone_before_the_hand_off_ends_keeps_its_verdict() -> None:
    scene = Scene(None)
    wire = scene.connect(make_context(make_rules(permit=(CLIENT,))))
    wire.engine.receive_eof(0.1)  # the MTA's affair
    assert wire.engine.next_action() is None
    wire.reset()
    assert (record_of(wire).verdict, record_of(wire).handoff) == (Verdict.ALLOWLISTED, "")
    wire.engine.receive_handoff(HandoffOutcome.DONE, "Plain", 1.0, greeting_ended=True)
    assert wire.engine.next_action() is None


def test_ehlo_before_anything_was_learned_is_deferred() -> None:
    scene = Scene()
    deep = Protocol(pipelining=ProtocolTest(True, Action.ENFORCE))
    wire = scene.connect(make_context(make_rules(protocol=deep), ehlo=None))
    scene.wait(6.0)
    wire.send(b"EHLO x\r\n")
    assert wire.received == TEASER + GREETING + NO_RESOURCES
    assert record_of(wire).verdict is Verdict.DEFERRED
