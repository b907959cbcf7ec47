"""Limits, stress, the address at which a pass is earned, and block lists beside the wait; what mode Observe makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine.recorded_player import log_words
from engine.scene import HOST, WALL, Scene, Wire, make_context, make_rules
from msgspec.structs import replace as with_fields
from postwarden_sidecar.engine.actions import (
    DnsblAnswer,
    Load,
    LookupPass,
    PreparePass,
    QueryDnsbl,
    StorePass,
)
from postwarden_sidecar.engine.connection import ENDING
from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.rules.settings import (
    Action,
    Cache,
    Dnsbl,
    DnsblSite,
    Handover,
    Limits,
    Mode,
    Protocol,
    ProtocolTest,
    Rules,
    Session,
)

CLIENT = "192.0.2.7"
TEASER = f"220-{HOST} ESMTP\r\n".encode()
LIMITS = Limits(connections_per_client=2, screening=10, upstream=5, prefix_ipv4=24)
FREE = Load(client=1, screening=1, upstream=0, stress=False)
SITE = DnsblSite("bl.example.", "bl.example.", None, 1, "bl.example")
GOOD = DnsblSite("wl.example.", "wl.example.", None, -2, "wl.example")


def connect(rules: Rules, load: Load = FREE, scene: Scene | None = None) -> Wire:
    scene = scene or Scene()
    scene.load = lambda wire, key: load
    return scene.connect(make_context(rules))


def record_of(wire: Wire) -> Record:
    assert wire.record is not None
    return wire.record


@pytest.mark.parametrize(
    ("load", "reply", "log"),
    [
        (with_fields(FREE, client=2), TEASER, ""),
        (
            with_fields(FREE, client=3),
            b"421 4.7.0 Error: too many connections\r\n",
            "NOQUEUE: reject: CONNECT: too many connections",
        ),
        (
            with_fields(FREE, upstream=5),
            b"421 4.3.2 All server ports are busy\r\n",
            "NOQUEUE: reject: CONNECT: all server ports busy",
        ),
        (
            with_fields(FREE, screening=10),
            b"421 4.3.2 All screening ports are busy\r\n",
            "reject: connect: all screening ports busy",
        ),
        (Load(3, 10, 5, stress=False), b"421 4.7.0 Error: too many connections\r\n", ""),
    ],
)
def test_limits_turn_away_with_postscreens_words(load: Load, reply: bytes, log: str) -> None:
    wire = connect(make_rules(limits=LIMITS), load)
    assert wire.received == reply
    if reply != TEASER:
        assert record_of(wire).verdict is Verdict.OVERLOADED
        assert wire.closed
    if log:
        assert log_words(record_of(wire)) == ["CONNECT", log, "DISCONNECT"]


def test_zero_is_no_limit() -> None:
    none = Limits(connections_per_client=0, screening=0, upstream=0)
    assert connect(make_rules(limits=none), Load(10**6, 10**6, 10**6, stress=False)).received == TEASER


def test_a_permitted_client_is_not_held_by_screenings_limit_but_by_the_others() -> None:
    rules = make_rules(limits=LIMITS, permit=(CLIENT,))
    assert connect(rules, with_fields(FREE, screening=10)).handed_over
    assert connect(rules, with_fields(FREE, client=3)).closed
    assert connect(rules, with_fields(FREE, upstream=5)).closed


def test_under_observe_only_screenings_limit_turns_away() -> None:
    rules = make_rules(limits=LIMITS, mode=Mode.OBSERVE)
    scene = Scene()
    wire = connect(rules, Load(3, 9, 5, stress=False), scene)
    assert wire.received == TEASER
    scene.wait(6.0)
    assert log_words(record_of(wire))[1:3] == [
        "NOQUEUE: reject: CONNECT: too many connections",
        "NOQUEUE: reject: CONNECT: all server ports busy",
    ]
    assert connect(rules, with_fields(FREE, screening=10)).closed


def test_clients_are_counted_by_their_prefix() -> None:
    keys: list[str] = []
    scene = Scene()
    scene.load = lambda wire, key: keys.append(key) or FREE  # type: ignore[func-returns-value]  # a list of calls
    scene.connect(make_context(make_rules(limits=LIMITS)))
    assert keys == ["192.0.2.0/24"]


def test_stress_shortens_the_wait_and_the_time_for_a_command() -> None:
    test = ProtocolTest(True, Action.ENFORCE)
    session = Session(command_time_limit=300.0, stress_command_time_limit=10.0)
    rules = make_rules(wait=6.0, stress_wait=2.0, protocol=Protocol(test, test, test), session=session)
    for load, wait, limit in ((FREE, 6.0, 300.5), (with_fields(FREE, stress=True), 2.0, 10.5)):
        scene = Scene()
        wire = connect(rules, load, scene)
        assert wire.engine.next_deadline() == wait - ENDING
        scene.wait(wait)
        assert wire.engine.next_deadline() == wait + limit


def test_at_an_address_without_passes_none_is_earned() -> None:
    scene = Scene()
    rules = make_rules(pass_addresses=("198.51.100.26",))
    wire = connect(rules, scene=scene)
    scene.wait(6.0)
    for line in (b"EHLO x\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"QUIT\r\n"):
        wire.send(line)
    assert b"450 4.3.2 Service currently unavailable\r\n" in wire.received
    assert b"STARTTLS" not in wire.received
    assert not scene.passes
    assert record_of(wire).verdict is Verdict.DEFERRED
    assert log_words(record_of(wire))[:2] == ["CONNECT", "ALLOWLIST VETO"]


@pytest.mark.parametrize("deep", [False, True])
def test_observe_lets_a_client_on_that_came_to_an_address_without_passes(deep: bool) -> None:
    scene = Scene()
    on = ProtocolTest(deep, Action.ENFORCE)
    rules = make_rules(
        pass_addresses=("198.51.100.26",),
        mode=Mode.OBSERVE,
        protocol=Protocol(on, on, on, handover=Handover.RECONNECT),
    )
    wire = connect(rules, scene=scene)
    scene.wait(6.0)
    for line in (b"EHLO x\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"QUIT\r\n"):
        wire.send(line)
    assert wire.handed_over
    assert not scene.passes
    record = record_of(wire)
    assert (record.verdict, record.would) == (Verdict.PASS_NEW, "deferred")
    assert log_words(record) == ["CONNECT", "ALLOWLIST VETO"]


def test_who_has_a_pass_may_come_to_any_address() -> None:
    scene = Scene()
    scene.passes[CLIENT] = {"pregreet": WALL + 10.0}
    assert connect(make_rules(pass_addresses=("198.51.100.26",)), scene=scene).handed_over


# Block lists


def answer(zone: str = "bl.example.", *, listed: bool = False, failed: bool = False) -> DnsblAnswer:
    addresses = (b"\x7f\x00\x00\x02",) if listed else ()
    return DnsblAnswer(zone, addresses, 300.0, failed, "answer", 0.0, 0.0)


def lists(*sites: DnsblSite, **fields: object) -> Dnsbl:
    return replace(Dnsbl(sites=sites or (SITE,)), **fields)  # type: ignore[arg-type]  # fields of a test's choice


def test_the_lists_are_asked_with_the_clients_address_beside_the_wait() -> None:
    wire = connect(make_rules(dnsbl=lists()))
    assert [action for action in wire.actions if isinstance(action, QueryDnsbl)] == [QueryDnsbl(CLIENT)]
    assert wire.received == TEASER


def test_a_listed_client_waits_to_the_end_and_is_then_dropped() -> None:
    scene = Scene()
    wire = connect(make_rules(dnsbl=lists(action=Action.DROP)), scene=scene)
    wire.tell(answer(listed=True))
    assert wire.received == TEASER
    scene.wait(6.0)
    reply = b"521 5.7.1 Service unavailable; client [192.0.2.7] blocked using bl.example\r\n"
    assert wire.received == TEASER + reply
    assert record_of(wire).test == "dnsbl"


@pytest.mark.parametrize(
    ("said", "prepared"),
    [([], True), ([answer()], True), ([answer(failed=True)], True), ([answer(listed=True)], False)],
)
def test_passes_of_a_client_that_is_listed_are_not_prepared(said: list[DnsblAnswer], prepared: bool) -> None:
    scene = Scene()
    wire = connect(make_rules(dnsbl=lists()), scene=scene)
    for each in said:
        wire.tell(each)
    scene.wait(6.0)
    assert (PreparePass(CLIENT) in wire.actions) is prepared


@pytest.mark.parametrize(("zone", "again"), [("bl.example.", False), ("other.example.", True)])
def test_an_early_talker_waits_for_the_lists_only(zone: str, again: bool) -> None:
    wire = connect(make_rules(dnsbl=lists()))
    wire.send(b"EHLO x\r\n")
    assert wire.received == TEASER
    wire.tell(answer(zone))
    assert (wire.received == TEASER) is again


def test_without_a_greeting_test_the_last_answer_ends_the_wait() -> None:
    wire = connect(make_rules(banner="", dnsbl=lists(SITE, GOOD)))
    wire.tell(answer())
    assert not wire.handed_over
    wire.tell(answer("wl.example.", failed=True))
    assert wire.handed_over


def test_lists_that_never_answer_let_the_client_pass_when_the_wait_ends() -> None:
    scene = Scene()
    wire = connect(make_rules(dnsbl=lists()), scene=scene)
    scene.wait(6.0)
    assert wire.handed_over
    assert scene.passes[CLIENT]["dnsbl"] == WALL + 6.0 + 60.0
    wire.engine.receive_dnsbl(answer(listed=True), scene.now)  # late: nothing comes of it
    assert wire.engine.next_action() is None


def test_lists_that_are_silent_are_in_the_record_each_once() -> None:
    scene = Scene()
    began = scene.now
    wire = connect(make_rules(dnsbl=lists(SITE, GOOD)), scene=scene)
    scene.wait(2.0)
    for _ in range(2):
        wire.tell(with_fields(answer(failed=True), outcome="timeout", start=began, end=scene.now))
    scene.wait(4.0)
    assert wire.handed_over
    assert [(each.zone, each.outcome, each.end) for each in record_of(wire).lookups] == [
        ("bl.example.", "timeout", 2.0),
        ("wl.example.", "timeout", 6.0),
    ]


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([], "unknown"),
        ([answer(failed=True)], "unknown"),
        ([answer(failed=True), answer("wl.example.", failed=True)], "unknown"),
        ([answer(failed=True), answer("wl.example.")], "pass"),
        ([answer(listed=True)], "fail"),
    ],
)
def test_without_a_usable_answer_it_is_unknown_what_the_lists_say(
    answers: list[DnsblAnswer], outcome: str
) -> None:
    scene = Scene()
    wire = connect(make_rules(dnsbl=lists(SITE, GOOD, action=Action.IGNORE)), scene=scene)
    for each in answers:
        wire.tell(each)
    scene.wait(6.0)
    assert wire.handed_over
    assert [test.outcome for test in record_of(wire).tests if test.test == "dnsbl"] == [outcome]


def test_a_good_score_passes_every_test_at_once() -> None:
    test = ProtocolTest(True, Action.ENFORCE)
    scene = Scene()
    rules = make_rules(protocol=Protocol(test, test, test), dnsbl=lists(SITE, GOOD, allow_threshold=-2))
    wire = connect(rules, scene=scene)
    wire.tell(answer())
    wire.tell(answer("wl.example.", listed=True))
    assert wire.handed_over
    assert set(scene.passes[CLIENT].values()) == {WALL + 300.0}
    assert log_words(record_of(wire)) == ["CONNECT", "PASS NEW"]


def test_passes_are_kept_by_prefix_but_those_of_lists_by_address() -> None:
    scene = Scene()
    rules = replace(make_rules(dnsbl=lists()), cache=Cache(prefix_ipv4=24))
    wire = connect(rules, scene=scene)
    wire.tell(answer())
    scene.wait(6.0)
    stored = [action for action in wire.actions if isinstance(action, StorePass)]
    assert [(action.key, list(action.expiries)) for action in stored] == [
        ("192.0.2.0/24", ["pregreet"]),
        (CLIENT, ["dnsbl"]),
    ]
    asked = [action.key for action in wire.actions if isinstance(action, LookupPass)]
    assert asked == ["192.0.2.0/24", CLIENT] * 2
    neighbour = scene.connect(make_context(rules), "192.0.2.8")
    assert neighbour.received == b""  # silence was kept by its neighbour; the lists are asked about it
    neighbour.tell(answer())
    assert neighbour.handed_over


# The dialogue's own limits


def test_replies_are_softened_and_have_the_footer() -> None:
    session = Session(reject_footer="See https://example.org/help", soft_fail=True)
    wire = connect(make_rules(reject=(CLIENT,), banner="", session=session))
    for line in (b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"QUIT\r\n"):
        wire.send(line)
    reply = b"450-4.3.2 Service currently unavailable\r\n450 4.3.2 See https://example.org/help\r\n"
    assert wire.received.endswith(b"250 2.1.0 Ok\r\n" + reply + b"221 2.0.0 Bye\r\n")
    assert record_of(wire).verdict is Verdict.REJECTED


def test_under_observe_the_dialogues_limits_are_only_recorded() -> None:
    test = ProtocolTest(True, Action.ENFORCE)
    session = Session(command_count_limit=2, line_length_limit=20, command_time_limit=5.0)
    rules = make_rules(mode=Mode.OBSERVE, banner="", protocol=Protocol(test, test, test), session=session)
    scene = Scene()
    wire = connect(rules, scene=scene)
    scene.wait(6.0)
    for line in (
        b"EHLO x\r\n",
        b"NOOP\r\n",
        b"NOOP\r\n",
        b"NOOP " + b"x" * 30 + b"\r\n",
        b"MAIL FROM:<a>\r\n",
    ):
        wire.send(line)
    wire.send(b"RCPT TO:<b>\r\n")
    assert wire.handed_over
    words = log_words(record_of(wire))
    assert words[1:4] == [
        "COMMAND TIME LIMIT after CONNECT",
        "COMMAND COUNT LIMIT after NOOP",
        "COMMAND LENGTH LIMIT after NOOP",
    ]


def test_stress_that_comes_later_shortens_the_time_for_the_next_command() -> None:
    test = ProtocolTest(True, Action.ENFORCE)
    session = Session(command_time_limit=300.0, stress_command_time_limit=10.0)
    scene = Scene()
    now = [FREE]
    scene.load = lambda newcomer, key: now[0]
    wire = scene.connect(
        make_context(make_rules(banner="", protocol=Protocol(test, test, test), session=session))
    )
    now[0] = with_fields(FREE, stress=True)
    scene.wait(20.0)
    assert not wire.closed  # the time for this command was set before
    wire.send(b"NOOP\r\n")
    scene.wait(10.4)
    assert not wire.closed
    scene.wait(0.2)
    assert wire.closed
