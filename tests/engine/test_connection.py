"""A connection from accept to hand-off or close: replies, actions, verdicts, records."""

from __future__ import annotations

import pytest
from engine.recorded_player import log_words
from engine.scene import HOST, POLICY, WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.engine.actions import Close, HandOff, HandoffOutcome, Interest, LookupPass, StorePass
from postwarden_sidecar.engine.connection import LOOKUP_LIMIT, Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.dialog import COMMAND_TIME_LIMIT
from postwarden_sidecar.engine.record import MAX_EVENTS, EventKind, Record, Verdict
from postwarden_sidecar.rules.settings import Action, Mode

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


def kinds(wire: Wire) -> list[str]:
    return [type(action).__name__ for action in wire.actions]


# --- access


def test_a_permitted_client_is_handed_over_at_once() -> None:
    wire = Scene().connect(make_context(make_rules(permit=(CLIENT,), reject=("192.0.2.0/24",))))
    assert wire.received == MTA
    assert kinds(wire) == ["HandOff", "Observe"]
    record = record_of(wire)
    assert (record.verdict, record.test, record.action, record.handoff) == (
        Verdict.ALLOWLISTED,
        "access",
        "",
        "ProxyV2",
    )
    assert record.reason == "192.0.2.7 is permitted by spec.access.rules[0], line 1"
    assert (record.policy_namespace, record.policy_name, record.policy_revision) == (
        POLICY.namespace,
        POLICY.name,
        POLICY.revision,
    )
    assert (record.started, record.handoff_start) == (WALL, 0.0)


def test_a_dropped_client_costs_three_actions() -> None:
    wire = Scene().connect(make_context(make_rules(reject=("192.0.2.0/24",), reject_action=DROP)))
    assert wire.received == b"521 5.3.2 Service currently unavailable\r\n"
    assert kinds(wire) == ["Send", "Observe", "Close"]
    assert wire.close == Close(linger=False)
    record = record_of(wire)
    assert (record.verdict, record.test, record.action) == (Verdict.DROPPED, "access", "Drop")
    assert record.reason == "192.0.2.7 is rejected by spec.access.rules[1], line 1"
    (test,) = record.tests
    assert (test.test, test.outcome, test.action, test.detail) == (
        "access",
        "fail",
        "Drop",
        "spec.access.rules[1], line 1",
    )


def test_an_enforced_reject_waits_like_all_and_is_refused_at_rcpt() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(reject=(CLIENT,), wait=6.0)))
    assert "LookupPass" not in kinds(wire)
    scene.wait(5.9)
    assert wire.received == TEASER
    scene.wait(0.2)
    assert wire.received == TEASER + GREETING
    wire.send(b"EHLO c.example\r\n")
    scene.wait(1)
    wire.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nQUIT\r\n")
    assert wire.received.endswith(
        b"250 2.1.0 Ok\r\n550 5.3.2 Service currently unavailable\r\n221 2.0.0 Bye\r\n"
    )
    assert b"STARTTLS" not in wire.received
    record = record_of(wire)
    assert (record.verdict, record.test, record.action) == (Verdict.REJECTED, "access", "Enforce")
    assert (record.helo, record.proto) == ("c.example", "ESMTP")
    assert (record.sender, record.recipient) == ("a@example.com", "b@example.org")
    assert record.dialog_start == pytest.approx(6.0)
    assert [(test.test, test.outcome, test.start, test.end) for test in record.tests] == [
        ("access", "fail", 0.0, 0.0),
        ("pregreet", "pass", 0.0, pytest.approx(6.0)),
    ]
    assert wire.close == Close(linger=True)
    assert "StorePass" not in kinds(wire)


def test_an_enforced_reject_without_a_greeting_test_is_greeted_at_once() -> None:
    wire = Scene().connect(make_context(make_rules(reject=(CLIENT,), banner="")))
    assert wire.received == GREETING
    assert wire.engine.stage == "dialog"


# --- the greeting test


def test_who_waits_passes_and_is_remembered() -> None:
    scene = Scene()
    context = make_context(make_rules(wait=6.0, ttl=3600.0))
    wire = scene.connect(context)
    assert wire.received == TEASER
    scene.wait(6.0)
    assert wire.received == TEASER + MTA
    assert StorePass(CLIENT, {"pregreet": WALL + 6.0 + 3600.0}) in wire.actions
    record = record_of(wire)
    assert (record.verdict, record.test) == (Verdict.PASS_NEW, "pregreet")
    assert record.handoff_start == pytest.approx(6.0)
    again = scene.connect(context)
    assert again.received == MTA
    assert record_of(again).verdict is Verdict.PASS_OLD
    scene.wait(3600.0)
    assert scene.connect(context).received == TEASER


def test_a_pass_from_a_broken_clock_does_not_count() -> None:
    scene = Scene()
    scene.passes[CLIENT] = {"pregreet": WALL + 7200.0}
    assert scene.connect(make_context(make_rules(ttl=3600.0))).received == TEASER


def test_the_second_of_two_new_clients_side_by_side_passes_as_old() -> None:
    scene = Scene()
    context = make_context(make_rules(wait=1.0))
    first = scene.connect(context)
    scene.wait(0.2)
    second = scene.connect(context)
    scene.wait(2.0)
    assert [record_of(wire).verdict for wire in (first, second)] == [Verdict.PASS_NEW, Verdict.PASS_OLD]
    assert not any(isinstance(action, StorePass) for action in second.actions)


@pytest.mark.parametrize("said", [b"E", b"\r\n", b"EHLO x\r\nMAIL FROM:<a@b>\r\n", b"\x16\x03\x01"])
def test_who_speaks_early_is_dropped(said: bytes) -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(pregreet=DROP)))
    scene.wait(1.5)
    wire.send(said)
    assert wire.received == TEASER + b"521 5.5.1 Protocol error\r\n"
    record = record_of(wire)
    assert (record.verdict, record.test, record.action) == (Verdict.DROPPED, "pregreet", "Drop")
    assert record.reason == "192.0.2.7 spoke before the greeting was complete, 1.5 s into the wait"
    said_event = record.events[1]
    assert (said_event.kind, said_event.text, said_event.count, said_event.offset) == (
        EventKind.PREGREET,
        said.decode("latin-1"),
        len(said),
        1.5,
    )
    assert wire.close == Close(linger=True)


def test_who_speaks_early_under_ignore_is_handed_over_with_what_it_said() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(pregreet=IGNORE)))
    wire.send(b"HELO early\r\n")
    assert wire.received == TEASER + MTA + f"250 {HOST}\r\n".encode()
    record = record_of(wire)
    assert (record.verdict, record.test, record.action) == (Verdict.TOLERATED, "pregreet", "Ignore")
    assert scene.passes == {}


def test_without_a_known_banner_there_is_no_teaser_and_the_wait_is_kept() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(banner=None), banner=""))
    scene.wait(5.9)
    assert wire.received == b""
    scene.wait(0.1)
    assert wire.received == MTA


def test_the_learned_banner_is_the_teaser() -> None:
    wire = Scene().connect(make_context(make_rules(banner=None), banner="relay.example ESMTP"))
    assert wire.received == b"220-relay.example ESMTP\r\n"


def test_who_speaks_into_no_greeting_gets_a_whole_one() -> None:
    wire = Scene().connect(make_context(make_rules(banner=None, hostname=HOST), banner=""))
    wire.send(b"HELO x\r\n")
    assert wire.received == f"220 {HOST} ESMTP\r\n250 {HOST}\r\n".encode()


def test_denied_and_early_the_last_failure_gives_the_reply() -> None:
    wire = Scene().connect(make_context(make_rules(reject=(CLIENT,))))
    wire.send(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\n")
    assert wire.received.endswith(b"550 5.5.1 Protocol error\r\n")


def test_denied_and_early_under_ignore_stays_denied() -> None:
    wire = Scene().connect(make_context(make_rules(reject=(CLIENT,), pregreet=IGNORE)))
    wire.send(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\n")
    assert wire.received.endswith(b"550 5.3.2 Service currently unavailable\r\n")
    assert not wire.handed_over


def test_an_ignored_reject_is_tolerated_and_its_pass_is_stored() -> None:
    scene = Scene()
    context = make_context(make_rules(reject=(CLIENT,), reject_action=IGNORE))
    wire = scene.connect(context)
    scene.wait(6.0)
    assert (record_of(wire).verdict, record_of(wire).test) == (Verdict.TOLERATED, "access")
    assert log_words(record_of(wire)) == ["CONNECT", "DENYLISTED", "PASS NEW"]
    again = scene.connect(context)
    assert again.received == MTA
    assert log_words(record_of(again)) == ["CONNECT", "DENYLISTED", "PASS OLD"]


@pytest.mark.parametrize(
    ("reject_action", "pregreet", "early", "would"),
    [
        (ENFORCE, ENFORCE, False, "rejected"),
        (DROP, ENFORCE, True, "dropped"),
        (ENFORCE, DROP, True, "dropped"),
        (IGNORE, ENFORCE, True, "rejected"),
        (IGNORE, IGNORE, True, ""),
    ],
)
def test_observe_lets_everybody_on_and_says_what_would_have_been(
    reject_action: Action, pregreet: Action, early: bool, would: str
) -> None:
    scene = Scene()
    rules = make_rules(mode=Mode.OBSERVE, reject=(CLIENT,), reject_action=reject_action, pregreet=pregreet)
    wire = scene.connect(make_context(rules))
    if early:
        wire.send(b"HELO x\r\n")
    scene.wait(6.0)
    assert wire.handed_over
    record = record_of(wire)
    assert (record.verdict, record.would, record.action) == (Verdict.TOLERATED, would, "Ignore")
    assert {test.action for test in record.tests if test.outcome == "fail"} == {"Ignore"}


def test_a_client_of_whom_no_test_is_on_is_unscreened() -> None:
    wire = Scene().connect(make_context(make_rules(banner="")))
    assert wire.received == MTA
    assert kinds(wire) == ["HandOff", "Observe"]
    assert record_of(wire).verdict is Verdict.UNSCREENED
    assert log_words(record_of(wire)) == ["CONNECT"]


# --- no rules


def test_without_rules_clients_are_handed_over_unscreened() -> None:
    wire = Scene().connect(make_context(None))
    assert wire.received == MTA
    assert (record_of(wire).verdict, record_of(wire).policy_name) == (Verdict.UNSCREENED, "")


def test_without_rules_clients_are_deferred_if_the_start_up_setting_says_so() -> None:
    wire = Scene().connect(make_context(None, defer=True))
    assert wire.received == BUSY
    assert record_of(wire).verdict is Verdict.DEFERRED


# --- hang-ups and deadlines


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
        ("dialog", Verdict.HANGUP, "HANGUP in tests after SMTP handshake"),
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
    assert (record_of(wire).test, record_of(wire).action) == ("access", "Enforce")


@pytest.mark.parametrize(
    ("state", "limit", "reply", "verdict"),
    [
        (
            "dialog",
            COMMAND_TIME_LIMIT,
            b"421 4.4.2 mx.example.org Error: timeout exceeded\r\n",
            Verdict.REJECTED,
        ),
        ("last_word", COMMAND_TIME_LIMIT, NO_RESOURCES, Verdict.DEFERRED),
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
    scene.wait(COMMAND_TIME_LIMIT - 1)
    wire.send(b"NOOP\r\n")
    scene.wait(COMMAND_TIME_LIMIT - 1)
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


# --- hand-offs that fail


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
    assert wire.received == TEASER + GREETING + NO_RESOURCES
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
    wire = scene.connect(make_context(make_rules(reject=(CLIENT,)), ehlo=None))
    scene.wait(6.0)
    wire.send(b"EHLO x\r\n")
    assert wire.received == TEASER + GREETING + NO_RESOURCES
    assert record_of(wire).verdict is Verdict.DEFERRED


# --- drain


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


# --- names and bounds


@pytest.mark.parametrize(
    ("hostname", "learned", "banner", "name"),
    [
        ("ours.example", "learned.example ESMTP", "policy.example ESMTP", "ours.example"),
        (None, "learned.example ESMTP", "policy.example ESMTP", "learned.example"),
        (None, "", "policy.example ESMTP", "policy.example"),
        (None, "", "", "localhost"),
    ],
)
def test_our_name(hostname: str | None, learned: str, banner: str, name: str) -> None:
    scene = Scene()
    rules = make_rules(reject=(CLIENT,), hostname=hostname, banner=banner)
    wire = scene.connect(make_context(rules, banner=learned))
    scene.wait(6.0)
    wire.send(b"HELO x\r\n")
    assert wire.received.endswith(f"250 {name}\r\n".encode())


def test_a_record_keeps_its_last_events_and_counts_what_it_leaves_out() -> None:
    _, wire = in_state("dialog")
    wire.send(b"MAIL FROM:<>\r\n" + b"RCPT TO:<b@c>\r\n" * 30)
    record = record_of(wire)
    assert len(record.events) <= MAX_EVENTS
    assert log_words(record)[-2:] == ["COMMAND COUNT LIMIT after RCPT", "DISCONNECT"]
    refused = sum(event.kind is EventKind.REJECT for event in record.events)
    assert refused + record.events_lost == 19


def test_ipv6_and_mapped_clients_are_known_by_their_usual_address() -> None:
    scene = Scene()
    mapped = scene.connect(
        make_context(make_rules(reject=("192.0.2.0/24",), reject_action=DROP)), "::ffff:192.0.2.7"
    )
    assert record_of(mapped).client_address == "192.0.2.7"
    assert mapped.received.startswith(b"521")
    rules = make_rules(reject=("2001:db8::/32",), reject_action=DROP)
    v6 = scene.connect(make_context(rules), "2001:db8::9", local="2001:db8::25")
    assert v6.received.startswith(b"521")


def test_what_the_driver_is_to_watch_for() -> None:
    scene = Scene(None)
    wire = scene.connect(make_context(make_rules(reject=("192.0.2.0/28",))))
    assert (wire.engine.interest, wire.engine.stage) == (Interest.PEEK, "screening")
    scene.wait(6.0)
    assert (wire.engine.interest, wire.engine.stage) == (Interest.READ, "dialog")
    passing = scene.connect(make_context(make_rules()))
    scene.wait(6.0)
    assert (passing.engine.interest, passing.engine.stage) == (Interest.HANGUP, "handoff")
