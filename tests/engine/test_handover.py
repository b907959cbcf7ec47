"""A session that passes within the dialogue is handed over in its middle, with the client's own bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine.recorded_player import log_words
from engine.scene import HOST, WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import HandOver, HandoverOutcome, Interest, Replay, StorePass
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.rules.settings import Action, Handover, Mode, Protocol, ProtocolTest, Rules, Session

CLIENT = "192.0.2.7"
ANSWERED, CLOSE, DONE = HandoverOutcome.ANSWERED, HandoverOutcome.CLOSE, HandoverOutcome.DONE
EHLO = b"EHLO c.example\r\n"
MAIL = b"mail from:<a@example.com> SIZE=10\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"
ALL = ("pipelining", "non_smtp_command", "bare_newline")


def rules(
    action: Action = Action.ENFORCE,
    handover: Handover = Handover.INLINE,
    mode: Mode = Mode.ENFORCE,
    reject: tuple[str, ...] = (),
) -> Rules:
    test = ProtocolTest(True, action, 100.0)
    protocol = Protocol(test, test, test, handover=handover)
    return make_rules(banner="", protocol=protocol, mode=mode, reject=reject)


def dialogue(*lines: bytes, policy: Rules | None = None, scene: Scene | None = None) -> Wire:
    wire = (scene or Scene()).connect(make_context(policy or rules()))
    for line in lines:
        wire.send(line)
    return wire


def last_reply(wire: Wire) -> bytes:
    return wire.received.splitlines(keepends=True)[-1]


def record_of(wire: Wire) -> Record:
    assert wire.record is not None
    return wire.record


def test_a_client_that_passes_goes_on_with_the_mta() -> None:
    wire = dialogue(EHLO, MAIL, RCPT)
    assert wire.replay == Replay(EHLO, MAIL, RCPT, b"")
    assert last_reply(wire) == b"250 2.1.5 Ok\r\n"
    record = record_of(wire)
    assert (record.verdict, record.handoff, record.test) == (Verdict.PASS_NEW, "ProxyV2", "pipelining")
    assert log_words(record) == ["CONNECT", "PASS NEW"]


def test_the_pass_is_stored_before_the_replay() -> None:
    wire = dialogue(EHLO, MAIL, RCPT)
    kinds = [type(action) for action in wire.actions]
    assert kinds.index(StorePass) < kinds.index(HandOver)
    assert StorePass(CLIENT, dict.fromkeys(ALL, WALL + 100.0)) in wire.actions


def test_without_hello_none_is_replayed_and_bare_newlines_stay_what_they_are() -> None:
    assert dialogue(MAIL, RCPT).replay == Replay(b"", MAIL, RCPT, b"")
    ignored = dialogue(b"HELO x\n", b"MAIL FROM:<>\n", b"RCPT TO:<b>\n", policy=rules(Action.IGNORE))
    assert ignored.replay == Replay(b"HELO x\n", b"MAIL FROM:<>\n", b"RCPT TO:<b>\n", b"")


def test_the_last_hello_and_mail_count() -> None:
    wire = dialogue(b"EHLO one\r\n", MAIL, b"RSET\r\n", b"HELO two\r\n", b"MAIL FROM:<z>\r\n", RCPT)
    assert wire.replay == Replay(b"HELO two\r\n", b"MAIL FROM:<z>\r\n", RCPT, b"")


def test_what_waits_behind_rcpt_goes_along_where_pipelining_is_ignored() -> None:
    wire = dialogue(EHLO, MAIL, RCPT + b"DATA\r\n.", policy=rules(Action.IGNORE))
    assert wire.replay == Replay(EHLO, MAIL, RCPT, b"DATA\r\n.")
    assert record_of(wire).verdict is Verdict.TOLERATED


def test_who_fails_is_refused_and_never_reaches_the_mta() -> None:
    wire = dialogue(EHLO, MAIL, RCPT + b"NOOP\r\n", b"QUIT\r\n")
    assert wire.replay is None
    assert b"550 5.5.1 Protocol error\r\n" in wire.received
    assert record_of(wire).verdict is Verdict.REJECTED
    assert not any(isinstance(action, StorePass) for action in wire.actions)


def test_who_fails_after_an_attempt_loses_the_pass() -> None:
    scene = Scene()
    scene.handover = (ANSWERED, b"450 4.2.0 Greylisted\r\n")
    wire = dialogue(EHLO, MAIL, RCPT, b"NOOP\n", RCPT, b"QUIT\r\n", scene=scene)
    assert b"450 4.2.0 Greylisted\r\n" in wire.received
    assert b"550 5.5.1 Protocol error\r\n" in wire.received
    assert scene.passes[CLIENT] == dict.fromkeys(ALL, 0.0)
    assert record_of(wire).verdict is Verdict.REJECTED


def test_reconnect_tells_who_passes_to_come_back() -> None:
    scene = Scene()
    wire = dialogue(EHLO, MAIL, RCPT, b"QUIT\r\n", policy=rules(handover=Handover.RECONNECT), scene=scene)
    assert b"450 4.3.2 Service currently unavailable\r\n" in wire.received
    assert wire.replay is None
    assert record_of(wire).verdict is Verdict.PASS_NEW
    again = scene.connect(make_context(rules(handover=Handover.RECONNECT)))
    assert again.handed_over


def test_observe_never_tells_a_client_to_come_back() -> None:
    policy = rules(Action.DROP, Handover.RECONNECT, Mode.OBSERVE)
    wire = dialogue(b"GET /\r\n", EHLO, MAIL, RCPT, policy=policy)
    assert wire.replay == Replay(EHLO, MAIL, RCPT, b"")
    record = record_of(wire)
    assert (record.verdict, record.would, record.test) == (Verdict.TOLERATED, "dropped", "non_smtp_command")
    (stored,) = (action for action in wire.actions if isinstance(action, StorePass))
    assert stored.expiries["non_smtp_command"] == 0.0  # what Observe made an Ignore of is no pass


def test_an_answer_of_the_mta_goes_to_the_client_and_the_dialogue_goes_on() -> None:
    scene = Scene()
    scene.handover = (ANSWERED, b"550 5.7.1 Not from you\r\n")
    wire = dialogue(EHLO, MAIL, RCPT, scene=scene)
    assert last_reply(wire) == b"550 5.7.1 Not from you\r\n"
    assert wire.engine.interest is Interest.READ
    scene.handover = (DONE, b"")
    wire.send(RCPT)
    assert wire.handed_over
    rejects = [word for word in log_words(record_of(wire)) if word.startswith("NOQUEUE")]
    assert len(rejects) == 1


def test_a_session_that_the_mta_ends_is_closed_with_its_reply() -> None:
    scene = Scene()
    scene.handover = (CLOSE, b"421 4.3.2 Going down\r\n")
    wire = dialogue(EHLO, MAIL, RCPT, scene=scene)
    assert last_reply(wire) == b"421 4.3.2 Going down\r\n"
    assert wire.closed
    assert record_of(wire).verdict is Verdict.DEFERRED


def test_what_waited_is_answered_when_the_mta_does_not_take_the_session() -> None:
    scene = Scene()
    scene.handover = (ANSWERED, b"450 4.3.2 Later\r\n")
    wire = dialogue(EHLO, MAIL, RCPT + b"NOOP\r\n", policy=rules(Action.IGNORE), scene=scene)
    assert wire.received.endswith(b"450 4.3.2 Later\r\n250 2.0.0 Ok\r\n")


def test_nothing_is_read_while_the_mta_decides() -> None:
    scene = Scene()
    scene.handover = None
    wire = dialogue(EHLO, MAIL, RCPT, scene=scene)
    assert (wire.engine.interest, wire.engine.stage) == (Interest.HANGUP, "handoff")
    assert wire.engine.next_deadline() is None
    wire.engine.shut_down(scene.now)
    wire.half_close()
    assert wire.record is None


@pytest.mark.parametrize("handover", Handover)
def test_starttls_ends_the_dialogue_like_rcpt(handover: Handover) -> None:
    wire = dialogue(EHLO, b"STARTTLS\r\n", policy=rules(handover=handover))
    assert b"STARTTLS" in wire.received
    assert wire.replay == Replay(EHLO, b"", b"STARTTLS\r\n", b"")
    assert StorePass(CLIENT, dict.fromkeys(ALL, WALL + 100.0)) in wire.actions


def test_starttls_without_ehlo_passes_no_test_of_the_dialogue() -> None:
    wire = dialogue(b"STARTTLS\r\n")
    assert wire.replay == Replay(b"", b"", b"STARTTLS\r\n", b"")
    assert not any(isinstance(action, StorePass) for action in wire.actions)


def test_input_behind_starttls_is_never_forwarded() -> None:
    enforced = dialogue(EHLO, b"STARTTLS\r\nNOOP\r\n")
    assert enforced.received.endswith(b"502 5.5.1 Error: command not implemented\r\n250 2.0.0 Ok\r\n")
    ignored = dialogue(EHLO, b"STARTTLS\r\nNOOP\r\n", policy=rules(Action.IGNORE))
    assert last_reply(ignored) == b"421 4.3.2 No system resources\r\n"
    for wire in (enforced, ignored):
        assert wire.replay is None
    assert ignored.closed


def test_who_is_to_be_refused_gets_no_tls() -> None:
    wire = dialogue(EHLO, b"STARTTLS\r\n", policy=rules(reject=(CLIENT,)))
    assert b"250-STARTTLS" not in wire.received
    assert last_reply(wire) == b"502 5.5.1 Error: command not implemented\r\n"


def test_hidden_starttls_is_neither_offered_nor_done() -> None:
    policy = replace(rules(), session=Session(hidden_extensions=("STARTTLS",)))
    wire = dialogue(EHLO, b"STARTTLS\r\n", policy=policy)
    assert b"STARTTLS" not in wire.received
    assert last_reply(wire) == b"502 5.5.1 Error: command not implemented\r\n"


def test_a_long_answer_of_the_mta_is_passed_on_whole() -> None:
    scene = Scene()
    reply = b"550-5.7.1 Not from you\r\n550 5.7.1 Ask postmaster\r\n"
    scene.handover = (ANSWERED, reply)
    wire = dialogue(EHLO, MAIL, RCPT, b"QUIT\r\n", scene=scene)
    assert wire.received.endswith(reply + b"221 2.0.0 Bye\r\n")
    assert log_words(record_of(wire))[2].startswith("NOQUEUE: reject: RCPT: 550 5.7.1 Ask postmaster; ")


def test_vrfy_promises_nothing() -> None:
    assert last_reply(dialogue(EHLO, b"VRFY someone\r\n")).startswith(b"252 2.0.0 ")


@pytest.mark.parametrize("cut", range(1, len(EHLO + MAIL + RCPT)))
def test_the_cuts_make_no_difference_where_pipelining_is_off(cut: int) -> None:
    off = ProtocolTest(False, Action.ENFORCE)
    policy = make_rules(banner="", protocol=Protocol(off, off, ProtocolTest(True, Action.ENFORCE)))
    words = EHLO + MAIL + RCPT
    wire = dialogue(words[:cut], words[cut:], policy=policy)
    assert wire.replay == Replay(EHLO, MAIL, RCPT, b"")
    assert wire.received.startswith(f"220 {HOST} ESMTP\r\n250-{HOST}\r\n".encode())
