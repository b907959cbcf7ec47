"""A connection from accept to hand-off or close: replies, actions, verdicts, records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine.recorded_player import log_words
from engine.scene import HOST, POLICY, WALL, Scene, Wire, make_context, make_rules
from postwarden_sidecar.checks.deep import TESTS as DEEP_TESTS
from postwarden_sidecar.engine.actions import Close, Interest, LookupPass, PreparePass, StorePass
from postwarden_sidecar.engine.connection import ENDING, Connection
from postwarden_sidecar.engine.record import EventKind, Record, Verdict
from postwarden_sidecar.rules.settings import Action, Cache, Mode

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
    for line in (b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.org>\r\n", b"QUIT\r\n"):
        wire.send(line)
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
        *((test, "pass", pytest.approx(6.0), pytest.approx(7.0, abs=0.2)) for test in DEEP_TESTS),
    ]
    assert wire.close == Close(linger=True)
    assert "StorePass" not in kinds(wire)


def test_an_enforced_reject_without_a_greeting_test_is_greeted_at_once() -> None:
    wire = Scene().connect(make_context(make_rules(reject=(CLIENT,), banner="")))
    assert wire.received == GREETING
    assert wire.engine.stage == "dialog"


# --- the greeting test


def test_nobody_waits_longer_because_its_passes_were_looked_up() -> None:
    engine = Connection(make_context(make_rules(wait=6.0)), CLIENT, 4711, "192.0.2.25", 25, 100.0, WALL)
    assert isinstance(engine.next_action(), LookupPass)
    engine.receive_pass({}, 100.004)
    assert engine.next_deadline() == pytest.approx(106.0 - ENDING)
    engine.handle_timer(106.0 - ENDING)
    assert engine.next_deadline() == pytest.approx(106.0)


@pytest.mark.parametrize(
    ("cache", "keys"), [(Cache(), [CLIENT]), (Cache(prefix_ipv4=24), ["192.0.2.0/24", CLIENT])]
)
def test_passes_are_prepared_while_the_wait_ends(cache: Cache, keys: list[str]) -> None:
    scene = Scene()
    wire = scene.connect(make_context(replace(make_rules(wait=6.0), cache=cache)))
    scene.wait(6.0 - 2 * ENDING)
    before = len(wire.actions)
    scene.wait(ENDING)
    assert wire.actions[before:] == [PreparePass(key) for key in keys]
    assert wire.engine.interest is Interest.PEEK
    scene.wait(ENDING)
    assert wire.actions[before + len(keys) :][: len(keys)] == [LookupPass(key) for key in keys]


def test_who_speaks_while_the_wait_ends_has_spoken_too_early() -> None:
    scene = Scene()
    wire = scene.connect(make_context(make_rules(wait=6.0)))
    scene.wait(6.0 - ENDING / 2)
    wire.send(b"EHLO x\r\n")
    wire.send(b"QUIT\r\n")
    assert log_words(record_of(wire))[:2] == ["CONNECT", r"PREGREET 8: EHLO x\r\n"]


def test_a_timer_that_comes_late_prepares_nothing() -> None:
    engine = Connection(make_context(make_rules(wait=6.0)), CLIENT, 4711, "192.0.2.25", 25, 100.0, WALL)
    assert isinstance(engine.next_action(), LookupPass)
    engine.receive_pass({}, 100.0)
    while engine.next_action() is not None:
        pass
    engine.handle_timer(106.5)
    assert engine.next_action() == LookupPass(CLIENT)


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
    for line in (b"HELO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b@c>\r\n"):
        wire.send(line)
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
