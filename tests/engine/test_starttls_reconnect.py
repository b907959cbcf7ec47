"""STARTTLS under `protocol.handoff: Reconnect`: where there is no TLS the session goes on in the clear and earns its pass."""

from __future__ import annotations

import pytest
from engine.scene import WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import HandoverOutcome, StorePass
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import Action, Handover, Protocol, ProtocolTest, Rules

CLIENT = "192.0.2.7"
EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
STARTTLS = b"STARTTLS\r\n"
COME_BACK = b"450 4.3.2 Service currently unavailable\r\n"
UNKNOWN = b"502 5.5.1 Error: command not implemented\r\n"
INJECTED = b"MAIL FROM:<injected@example.com>\r\nRCPT TO:<b@example.org>\r\n"


def rules(action: Action = Action.ENFORCE) -> Rules:
    test = ProtocolTest(True, action, 100.0)
    return make_rules(banner="", protocol=Protocol(test, test, test, handover=Handover.RECONNECT))


def in_the_clear(wire: Wire) -> None:
    """MAIL and RCPT as if STARTTLS had not been said, up to the pass."""
    wire.replay = None
    before = len(wire.received)
    for line in (MAIL, RCPT, b"QUIT\r\n"):
        wire.send(line)
    assert wire.received[before:] == b"250 2.1.0 Ok\r\n" + COME_BACK + b"221 2.0.0 Bye\r\n"
    assert wire.replay is None
    assert not wire.handed_over
    tests = ("pipelining", "non_smtp_command", "bare_newline")
    assert StorePass(CLIENT, dict.fromkeys(tests, WALL + 100.0)) in wire.actions


def test_an_mta_without_tls_is_answered_for_as_postscreen_without_tls_does() -> None:
    scene = Scene()
    wire = scene.connect(make_context(rules(), ehlo=("SIZE 1000", "CHUNKING")))
    wire.send(EHLO)
    assert b"STARTTLS" not in wire.received
    wire.send(STARTTLS)
    assert wire.received.endswith(UNKNOWN)
    assert wire.replay is None
    in_the_clear(wire)
    assert wire.record is not None
    assert wire.record.verdict is Verdict.PASS_NEW
    assert scene.connect(make_context(rules())).handed_over


@pytest.mark.parametrize("refusal", [b"454 4.7.0 TLS not available\r\n", b"502 5.5.1 never\r\n"])
def test_a_refusal_of_the_mta_goes_to_the_client(refusal: bytes) -> None:
    scene = Scene()
    scene.handover = (HandoverOutcome.ANSWERED, refusal)
    wire = scene.connect(make_context(rules()))
    for line in (EHLO, STARTTLS):
        wire.send(line)
    assert wire.received.endswith(refusal)
    in_the_clear(wire)
    assert wire.record is not None
    assert wire.record.verdict is Verdict.PASS_NEW
    assert wire.record.reason == f"{CLIENT} passed the tests, and was told to come back"


def test_a_client_that_leaves_after_the_refusal_was_deferred() -> None:
    scene = Scene()
    scene.handover = (HandoverOutcome.ANSWERED, b"454 4.7.0 TLS not available\r\n")
    wire = scene.connect(make_context(rules()))
    for line in (EHLO, STARTTLS, b"QUIT\r\n"):
        wire.send(line)
    assert wire.record is not None
    assert wire.record.verdict is Verdict.DEFERRED


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("action", [Action.ENFORCE, Action.IGNORE])
def test_bytes_behind_starttls_are_never_commands_to_the_mta(action: Action, offered: bool) -> None:
    wire = Scene().connect(make_context(rules(action), ehlo=("STARTTLS",) if offered else ()))
    wire.send(EHLO)
    wire.send(STARTTLS + INJECTED)
    wire.send(b"QUIT\r\n")
    assert wire.replay is None
    assert wire.heard_by_mta == b""
    assert wire.record is not None
    if action is Action.ENFORCE:
        assert UNKNOWN in wire.received
        assert wire.record.verdict is Verdict.REJECTED
    elif offered:
        assert wire.received.endswith(b"421 4.3.2 No system resources\r\n")
