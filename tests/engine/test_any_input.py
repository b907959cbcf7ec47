"""Whatever comes, in whatever order: the engine raises nothing, ends once, keeps little, and answers faults of ours with 4xx."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from engine.scene import WALL, make_context, make_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden_sidecar.engine import replies
from postwarden_sidecar.engine.actions import (
    IDLE,
    Close,
    DnsblAnswer,
    EngineAction,
    HandOff,
    HandoffOutcome,
    HandOver,
    HandoverOutcome,
    Interest,
    Load,
    LookupPass,
    Observe,
    Send,
    StorePass,
)
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import MAX_EVENTS, MAX_TEXT, Record, Verdict
from postwarden_sidecar.rules.settings import (
    Action,
    Dnsbl,
    DnsblSite,
    Handover,
    Limits,
    Mode,
    Protocol,
    ProtocolTest,
    Session,
)

COMMAND_COUNT_LIMIT = Session().command_count_limit
LINE_LENGTH_LIMIT = Session().line_length_limit
CLIENT = "192.0.2.7"
HEADER = b"PROXY TCP4 192.0.2.8 192.0.2.25 4001 25\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"

said = st.one_of(
    st.binary(max_size=64),
    st.binary(min_size=2000, max_size=5000),
    st.lists(
        st.sampled_from(
            [
                HEADER,
                HEADER[:10],
                LOCAL,
                b"EHLO x\r\n",
                b"HELO y\n",
                b"MAIL FROM:<a@b>\r\n",
                b"RCPT TO:<c@d>\r\n",
                b"DATA\r\n",
                b"RCPT TO:<postmaster@example.org>\r\n",
                b"QUIT\r\n",
                b"STARTTLS\r\n",
                b"x" * 3000,
                b"NOOP\r\n" * 10,
            ]
        ),
        min_size=1,
        max_size=4,
    ).map(b"".join),
)
passes = st.dictionaries(st.sampled_from(["pregreet", "dnsbl", ""]), st.floats(allow_nan=True), max_size=2)
# Calls as a driver makes them, and in orders in which none should.
calls = st.one_of(
    st.tuples(st.just("peek"), said),
    st.tuples(st.just("bytes"), said),
    st.tuples(st.just("eof"), st.none()),
    st.tuples(st.just("lost"), st.none()),
    st.tuples(st.just("timer"), st.floats(0, 400)),
    st.tuples(st.just("deadline"), st.none()),
    st.tuples(st.just("pass"), passes),
    st.tuples(st.just("shut_down"), st.none()),
    st.tuples(
        st.just("dnsbl"),
        st.builds(
            DnsblAnswer,
            st.sampled_from(["bl.example.", "wl.example.", "other.example."]),
            st.sampled_from([(), (b"\x7f\0\0\x02",), (b"\x7f\0\0\x02", b"\x7f\0\0\x03")]),
            st.floats(0, 1e6),
            st.booleans(),
            st.just("answer"),
            st.just(0.0),
            st.just(0.0),
        ),
    ),
    st.tuples(
        st.just("handover"),
        st.tuples(
            st.sampled_from(HandoverOutcome),
            st.sampled_from([b"250 Ok\r\n", b"450 4.3.2 Later\r\n", b"421 4.3.2 Later\r\n", b""]),
        ),
    ),
    st.tuples(
        st.just("handoff"),
        st.tuples(
            st.sampled_from(HandoffOutcome), st.sampled_from(["", "it is down", "ProxyV1"]), st.booleans()
        ),
    ),
)
NO_DATA = (HandoverOutcome.DONE, HandoverOutcome.ANSWERED, HandoverOutcome.CLOSE)
# Replies in which a client that failed no test hears 5xx: about what it said itself. `fuzz_targets.engine_driver` has the same rule.
SYNTAX = tuple(
    reply.removesuffix(b"\r\n")
    for name, reply in vars(replies).items()
    if isinstance(reply, bytes) and reply.startswith(b"5") and name.isupper()
)
actions = st.sampled_from(Action)
deep_tests = st.builds(ProtocolTest, st.booleans(), actions)
protocols = st.builds(
    Protocol, deep_tests, deep_tests, deep_tests, st.just(("CONNECT",)), st.sampled_from(Handover)
)
SITES = (
    DnsblSite("bl.example.", "bl.example.", None, 2, "bl.example"),
    DnsblSite("wl.example.", "wl.example.", None, -2, "wl.example"),
)
lists = st.just(Dnsbl()) | st.builds(
    Dnsbl,
    actions,
    st.integers(1, 3),
    st.integers(-3, 0),
    st.just(10.0),
    st.just(60.0),
    st.just(3600.0),
    st.just(()),
    st.just(SITES),
)
limits = st.just(Limits()) | st.just(
    Limits(connections_per_client=1, screening=3, upstream=2, prefix_ipv4=24)
)
loads = st.builds(Load, st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.booleans())
sessions = st.just(Session()) | st.builds(
    Session,
    hello_required=st.booleans(),
    reject_footer=st.sampled_from(["", "help"]),
    soft_fail=st.booleans(),
)
contexts = st.builds(
    lambda rules, banner, ehlo, defer: make_context(rules, banner=banner, ehlo=ehlo, defer=defer),
    st.none()
    | st.builds(
        lambda mode, permit, reject, reject_action, pregreet, banner, trusted, protocol, dnsbl, limits, session, earns, exempt: (
            make_rules(
                mode=mode,
                permit=permit,
                reject=reject,
                reject_action=reject_action,
                pregreet=pregreet,
                banner=banner,
                trusted=trusted,
                protocol=protocol,
                dnsbl=dnsbl,
                limits=limits,
                session=session,
                pass_addresses=earns,
                exempt=exempt,
            )
        ),
        st.sampled_from(Mode),
        st.sampled_from([(), (CLIENT,), ("192.0.2.8",)]),
        st.sampled_from([(), ("192.0.2.0/24",)]),
        actions,
        actions,
        st.sampled_from([None, "", "mx.example.org ESMTP"]),
        st.sampled_from([(), (CLIENT,)]),
        protocols,
        lists,
        limits,
        sessions,
        st.sampled_from([(), ("198.51.100.26",)]),
        st.sampled_from([(), ("postmaster@",)]),
    ),
    st.sampled_from(["", "mx.example.org ESMTP"]),
    st.sampled_from([None, (), ("SIZE 1", "STARTTLS")]),
    st.booleans(),
)


@dataclass
class Course:
    """What an engine did."""

    engine: Connection
    now: float = 0.0
    actions: list[EngineAction] = field(default_factory=list)

    def drain(self) -> None:
        while (action := self.engine.next_action()) is not None:
            self.actions.append(action)

    def make(self, call: str, argument: object) -> None:
        engine = self.engine
        self.now += 0.01
        if call == "peek":
            assert isinstance(argument, bytes)
            assert 0 <= engine.receive_peek(argument, self.now) <= len(argument)
        elif call == "bytes":
            assert isinstance(argument, bytes)
            engine.receive_bytes(argument, self.now)
        elif call == "eof":
            engine.receive_eof(self.now)
        elif call == "lost":
            engine.connection_lost(self.now)
        elif call == "timer":
            assert isinstance(argument, float)
            self.now += argument
            engine.handle_timer(self.now)
        elif call == "deadline":
            deadline = engine.next_deadline()
            if deadline is not None:
                self.now = max(self.now, deadline)
                engine.handle_timer(self.now)
                after = engine.next_deadline()
                assert after is None or after > self.now, (
                    "a timer that does not go off would be called for ever"
                )
        elif call == "pass":
            assert isinstance(argument, dict)
            engine.receive_pass(argument, self.now)
        elif call == "dnsbl":
            assert isinstance(argument, DnsblAnswer)
            engine.receive_dnsbl(argument, self.now)
        elif call == "handover":
            assert isinstance(argument, tuple)
            outcome, reply = argument
            asked = next(
                (action.replay for action in self.actions[::-1] if isinstance(action, HandOver)), None
            )
            if asked is None or asked.request != b"DATA\r\n":  # what only the data of a mail can come to
                outcome = outcome if outcome in NO_DATA else HandoverOutcome.ANSWERED
            elif outcome in NO_DATA:
                outcome = HandoverOutcome.CLOSE
            engine.receive_handover(outcome, reply, self.now)
        elif call == "shut_down":
            engine.shut_down(self.now)
        else:
            assert isinstance(argument, tuple)
            outcome, detail, greeting_ended = argument
            engine.receive_handoff(outcome, detail, self.now, greeting_ended=greeting_ended)
        self.drain()

    def finish(self) -> None:
        """Time goes by until it is over, as it must."""
        for _ in range(20):
            if self.engine.next_deadline() is None:
                break
            self.make("deadline", None)
        if self.engine.stage == "handoff":
            self.make("handoff", (HandoffOutcome.DONE, "Plain", True))
            self.make("handover", (HandoverOutcome.DONE, b"Plain"))
        assert self.engine.next_deadline() is None
        assert self.engine.interest is Interest.HANGUP

    @property
    def sent(self) -> bytes:
        return b"".join(action.data for action in self.actions if isinstance(action, Send))

    @property
    def record(self) -> Record | None:
        records = [action.record for action in self.actions if isinstance(action, Observe)]
        assert len(records) <= 1
        return records[0] if records else None


def run(context: Context, course: list[tuple[str, object]], load: Load = IDLE) -> Course:
    done = Course(Connection(context, CLIENT, 4000, "198.51.100.25", 25, 0.0, WALL, lambda key: load))
    done.drain()
    for call, argument in course:
        done.make(call, argument)
    done.finish()
    return done


@given(contexts, st.lists(calls, max_size=12), loads)
@settings(max_examples=400)
def test_any_course_ends_once_and_in_order(
    context: Context, calls: list[tuple[str, object]], load: Load
) -> None:
    done = run(context, calls, load)
    names = [type(action) for action in done.actions]
    assert names.count(Close) <= 1
    assert names.count(HandOff) <= 1
    record = done.record
    if record is None:
        # A balancer's probe: nothing was said but LOCAL, or nothing at all.
        assert names[-1] is Close
        assert context.rules is not None
        assert len(context.rules.proxy_trusted)
    elif Close in names:
        assert names[-2:] == [Observe, Close]
    else:
        assert names[-1] is Observe
        assert record.handoff or HandOff in names
    if StorePass in names:
        assert names.index(StorePass) < names.index(Observe)


@given(contexts, st.lists(calls, max_size=12), loads)
@settings(max_examples=300)
def test_records_are_bounded(context: Context, calls: list[tuple[str, object]], load: Load) -> None:
    record = run(context, calls, load).record
    if record is None:
        return
    assert len(record.events) <= MAX_EVENTS
    assert record.duration >= 0
    texts = [record.helo, record.sender, record.recipient]
    texts += [
        text for event in record.events for text in (event.text, event.sender, event.recipient, event.helo)
    ]
    assert max(map(len, texts)) <= MAX_TEXT
    assert (
        len(record.tests) <= 9
    )  # access, two early ones, and three within the dialogue, which may fail after they passed
    assert record.reason
    assert len(record.reason) <= 2 * MAX_TEXT


@given(contexts, st.lists(calls, max_size=12), loads)
@settings(max_examples=300)
def test_nobody_is_refused_for_good_but_by_a_test_or_for_what_it_said(
    context: Context, calls: list[tuple[str, object]], load: Load
) -> None:
    done = run(context, calls, load)
    record = done.record
    failed = record is not None and any(
        test.outcome == "fail" and test.action in ("Enforce", "Drop") for test in record.tests
    )
    soft = context.rules is not None and context.rules.session.soft_fail
    footer = b"" if context.rules is None else context.rules.session.reject_footer.encode()
    own = [line for line in done.sent.splitlines() if not (footer and line.endswith(footer))]
    for line in own:
        if line.startswith(b"5"):
            assert not soft, f"not softened: {line!r}"
            assert failed or as_last(line).startswith(SYNTAX), f"5xx without a failed test: {line!r}"
    if not failed:
        assert record is None or record.verdict not in (Verdict.REJECTED, Verdict.DROPPED)
    if own and record is not None and record.verdict in (Verdict.DEFERRED, Verdict.ERROR, Verdict.OVERLOADED):
        assert not own[-1].startswith(b"5") or as_last(own[-1]).startswith(SYNTAX), "our own fault is a 5xx"


def as_last(line: bytes) -> bytes:
    """A line of a reply as if it were the last one."""
    return line[:3] + b" " + line[4:]


@given(contexts, st.lists(calls, max_size=12), loads)
@settings(max_examples=200)
def test_every_moment_has_a_deadline(context: Context, calls: list[tuple[str, object]], load: Load) -> None:
    done = Course(Connection(context, CLIENT, 4000, "198.51.100.25", 25, 0.0, WALL))
    done.drain()
    for call, argument in calls:
        done.make(call, argument)
        over = any(isinstance(action, Observe | Close) for action in done.actions)
        assert over or done.engine.stage == "handoff" or done.engine.next_deadline() is not None


def buffered(engine: Connection) -> int:
    """Bytes that an engine holds of what the client said."""
    held = len(engine._screening.facts.said)
    if engine._header is not None:
        held += len(engine._header._buffer)
    if engine._conversation is not None:
        held += len(engine._conversation.dialog.waiting)
    return held


@given(contexts, st.lists(calls, max_size=12), loads)
@settings(max_examples=200)
def test_little_is_kept_of_what_a_client_says(
    context: Context, calls: list[tuple[str, object]], load: Load
) -> None:
    done = Course(Connection(context, CLIENT, 4000, "198.51.100.25", 25, 0.0, WALL))
    done.drain()
    for call, argument in calls:
        done.make(call, argument)
        assert buffered(done.engine) <= 8192
    replies = sum(isinstance(action, Send) for action in done.actions)
    assert replies <= 2 * COMMAND_COUNT_LIMIT + 5  # one a command, one a hand-over that is not taken


@pytest.mark.parametrize("piece", [1, 7, LINE_LENGTH_LIMIT, 65536])
def test_a_megabyte_in_our_dialogue_is_not_kept(piece: int) -> None:
    context = make_context(make_rules(reject=(CLIENT,), banner=""))
    done = Course(Connection(context, CLIENT, 4000, "198.51.100.25", 25, 0.0, WALL))
    taken = 0
    while not any(isinstance(action, Close) for action in done.actions):
        done.make("bytes", b"x" * piece)
        taken += piece
        assert buffered(done.engine) <= LINE_LENGTH_LIMIT + 1
    assert taken <= LINE_LENGTH_LIMIT + 1 + piece


def test_a_store_that_is_asked_is_the_clients_own() -> None:
    done = run(make_context(make_rules(trusted=(CLIENT,))), [("peek", HEADER)])
    keys = {action.key for action in done.actions if isinstance(action, LookupPass | StorePass)}
    assert keys == {"192.0.2.8"}
