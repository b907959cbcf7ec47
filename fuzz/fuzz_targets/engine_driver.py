"""A driver for one engine that holds it to its promises after each call:

no exception; our own faults answer 4xx; replies bounded; little is kept; a deadline in every state that is the engine's; nothing of the
client is taken before it is to be, and what goes to the MTA is the client's own bytes; one record, at the end; no pass for who failed.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.scene import WALL
from postwarden_sidecar.checks import passes
from postwarden_sidecar.engine import replies
from postwarden_sidecar.engine.actions import (
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
    Replay,
    Send,
    StorePass,
)
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.conversation import OBSERVED_TIME_LIMIT
from postwarden_sidecar.engine.dialog import ANSWERS_AT_ONCE
from postwarden_sidecar.engine.proxy_header import MAX_V2_LENGTH
from postwarden_sidecar.engine.record import MAX_EVENTS, MAX_TEXT, Record, Verdict
from postwarden_sidecar.rules.settings import Mode

from fuzz_targets.engine_settings import LOCAL, PEER

MAX_KEPT = 8192  # bytes of a client's input (design)
MAX_SENT = 2 * ANSWERS_AT_ONCE  # bytes that wait for the client at once
# Replies in which a client that failed no test hears 5xx: about what it said itself.
SYNTAX = tuple(
    reply.removesuffix(b"\r\n")
    for name, reply in vars(replies).items()
    if isinstance(reply, bytes) and reply.startswith(b"5") and name.isupper()
)


class Driver:
    """The client's socket, the clock, and all that the engine did."""

    def __init__(self, context: Context, load: Load) -> None:
        self.now = 0.0
        self._context = context
        self._waiting = b""  # said, and still in the socket
        self._taken = b""  # by receive_peek
        self._read = b""  # by receive_bytes
        self._by_mta = b""
        self._ended = self._end_told = False
        self._handovers = 0
        self._replay: Replay | None = None  # of the last hand-over
        self._disorder = False  # calls came that no driver makes: what was read where is not to be told
        self.actions: list[EngineAction] = []
        self.engine = Connection(context, PEER, 4000, LOCAL, 25, self.now, WALL, lambda key: load)
        self._pump()

    # Events

    def say(self, data: bytes) -> None:
        """The client does."""
        if not self._ended:
            self._waiting += data
            self._pump()

    def say_out_of_order(self, data: bytes, *, peek: bool) -> None:
        """A call that the engine did not ask for."""
        self._disorder = True
        if peek:
            assert 0 <= self.engine.receive_peek(data, self.now) <= len(data)
        else:
            self.engine.receive_bytes(data, self.now)
        self._pump()

    def wait(self, seconds: float) -> None:
        """Time goes by; timers go off when they are due."""
        until = self.now + seconds
        for _ in range(20):
            deadline = self.engine.next_deadline()
            if deadline is None or deadline > until:
                break
            self.reach_deadline()
        self.now = max(self.now, until)
        self.engine.handle_timer(self.now)
        self._pump()

    def reach_deadline(self) -> None:
        """The next timer goes off."""
        deadline = self.engine.next_deadline()
        if deadline is None:
            return
        self.now = max(self.now, deadline)
        self.engine.handle_timer(self.now)
        self._pump()
        after = self.engine.next_deadline()
        assert after is None or after > self.now, "a timer that does not go off would be called for ever"

    def list_answers(self, answer: DnsblAnswer) -> None:
        """A block list answers, asked or not."""
        self.engine.receive_dnsbl(answer, self.now)
        self._pump()

    def store_answers(self, expiries: Mapping[str, float]) -> None:
        """The pass store answers, asked or not."""
        self.engine.receive_pass(expiries, self.now)
        self._pump()

    def handed_off(self, outcome: HandoffOutcome, detail: str, *, greeting_ended: bool) -> None:
        """The hand-off ends, begun or not."""
        if self.engine.stage == "handoff" and outcome is HandoffOutcome.REFUSED:
            self._by_mta += detail.encode() + b"\r\n"
        self.engine.receive_handoff(outcome, detail, self.now, greeting_ended=greeting_ended)
        self._pump()

    def handed_over(self, outcome: HandoverOutcome, reply: bytes) -> None:
        """The hand-over in the middle ends, begun or not."""
        replay = self._replay
        if outcome in (HandoverOutcome.EXEMPTED, HandoverOutcome.BARE_NEWLINE) and not (
            replay is not None and replay.exempt and replay.request.upper() == b"DATA\r\n"
        ):
            return  # no driver says so of another request
        if replay is not None and replay.exempt and outcome is HandoverOutcome.DONE:
            outcome, reply = (
                HandoverOutcome.ANSWERED,
                b"250 2.1.5 Ok\r\n",
            )  # nor does it relay for who is refused
        if self.engine.stage == "handoff":
            self._by_mta += reply
        self.engine.receive_handover(outcome, reply, self.now)
        self._pump()

    def half_close(self) -> None:
        """FIN."""
        self._ended = True
        self._pump()

    def reset(self) -> None:
        """RST."""
        self._ended = self._end_told = True
        self.engine.connection_lost(self.now)
        self._pump()

    def shut_down(self) -> None:
        """A drain."""
        self.engine.shut_down(self.now)
        self._pump()

    def finish(self) -> None:
        """Time goes by until it is over, as it must."""
        for _ in range(30):
            if self.engine.next_deadline() is None:
                break
            self.reach_deadline()
            if any(isinstance(action, LookupPass) for action in self.actions[-1:]):
                self.store_answers({})
        if self.engine.stage == "handoff" and not self._over:
            self.handed_off(HandoffOutcome.DONE, "Plain", greeting_ended=True)
            self.handed_over(HandoverOutcome.DONE, b"Plain")
            self.handed_over(HandoverOutcome.CLOSE, b"421 4.3.2 bye\r\n")  # where no relay may begin
            self.reach_deadline()
        assert self.engine.next_deadline() is None, "it does not end"
        assert self.engine.interest is Interest.HANGUP
        self._judge_the_end()
        self._judge_the_record()
        before = len(self.actions)
        self.engine.receive_bytes(b"QUIT\r\n", self.now)
        self.engine.receive_peek(b"QUIT\r\n", self.now)
        self.engine.receive_eof(self.now)
        self.engine.shut_down(self.now)
        self.engine.handle_timer(self.now + 1e6)
        self._drain()
        assert len(self.actions) == before, "something is done after the end"

    # The socket

    @property
    def _over(self) -> bool:
        return any(isinstance(action, Observe | Close) for action in self.actions)

    def _pump(self) -> None:
        """What a driver does until nothing more is to be done."""
        while True:
            self._drain()
            self._check()
            if self._over or not self._feed():
                return

    def _feed(self) -> bool:
        engine = self.engine
        if self._waiting and engine.interest is Interest.PEEK:
            before = engine.stage, engine.interest, engine.next_deadline()
            size = engine.receive_peek(self._waiting, self.now)
            assert 0 <= size <= len(self._waiting)
            self._taken += self._waiting[:size]
            self._waiting = self._waiting[size:]
            return bool(size) or before != (engine.stage, engine.interest, engine.next_deadline())
        if self._waiting and engine.interest is Interest.READ:
            data, self._waiting = self._waiting, b""
            self._read += data
            engine.receive_bytes(data, self.now)
            return True
        if self._ended and not self._end_told:
            self._end_told = True
            engine.receive_eof(self.now)
            return True
        return False

    def _drain(self) -> None:
        while (action := self.engine.next_action()) is not None:
            if isinstance(action, HandOver):
                self._handovers += 1
                self._replay = action.replay
                self._judge_handover(action)
            elif isinstance(action, HandOff) and not self._disorder:
                assert not self._read, "what is the MTA's was read"
            elif isinstance(action, Send):
                assert len(action.data) <= MAX_SENT + len(self._by_mta), "replies pile up"
            self.actions.append(action)

    # The promises

    def _check(self) -> None:
        engine = self.engine
        deadline = engine.next_deadline()
        assert self._over or engine.stage == "handoff" or deadline is not None, "a state without a deadline"
        assert deadline is None or deadline <= self.now + OBSERVED_TIME_LIMIT + 1
        assert len(self._taken) <= 16 + MAX_V2_LENGTH, "more was taken than a header"
        held = len(engine._screening.facts.said)
        held += 0 if engine._conversation is None else len(engine._conversation.dialog.waiting)
        assert held <= MAX_KEPT or self._kept_for_the_mta(), f"{held} bytes are kept"

    def _kept_for_the_mta(self) -> bool:
        return (
            self.engine.stage == "handoff"
        )  # what was read in one piece with RCPT; nothing is read meanwhile

    def _judge_handover(self, action: HandOver) -> None:
        replay = action.replay
        assert replay.exempt or not self.engine._screening.standing.refusal, "a relay for a refused client"
        if replay.exempt:
            assert self._context.rules is not None
            assert self._context.rules.exempt_recipients
            return
        if self._disorder:
            return
        for line in (replay.hello, replay.mail, replay.request):
            assert line.count(b"\n") == (1 if line else 0)
            assert line in self._read, "not the client's own bytes"
        assert self._read.endswith(replay.request + replay.rest), (
            "bytes behind the request are lost or changed"
        )
        assert replay.mail or (replay.request.strip().upper() == b"STARTTLS" and not replay.rest)

    @property
    def _sent(self) -> bytes:
        return b"".join(action.data for action in self.actions if isinstance(action, Send))

    def _judge_the_end(self) -> None:
        names = [type(action) for action in self.actions]
        assert names.count(Close) <= 1
        assert names.count(Observe) <= 1
        assert names.count(HandOff) <= 1
        if Observe not in names:
            assert names[-1] is Close, "no record, and not closed"
            rules = self._context.rules
            assert rules is not None
            assert len(rules.proxy_trusted), "no record"
            assert self._sent == b"" or b"\n5" not in b"\n" + self._sent
        elif Close in names:
            assert names[-2:] == [Observe, Close]
        else:
            assert names[-1] is Observe
        sent = self._sent
        assert sent == b"" or sent.endswith(b"\n")
        answers = sum(line[3:4] == b" " for line in sent.splitlines())
        said = len((self._read + self._waiting).split(b"\n")) + (20 * 600 if self._disorder else 0)
        assert answers <= said + self._handovers + 6, "more replies than commands"
        rules = self._context.rules
        if rules is not None and rules.mode is Mode.ENFORCE and not self._disorder:
            assert answers <= rules.session.command_count_limit + self._handovers + 6

    @property
    def _record(self) -> Record | None:
        return next((action.record for action in self.actions if isinstance(action, Observe)), None)

    def _judge_the_record(self) -> None:
        record = self._record
        if record is None:
            return
        assert 0 < len(record.reason) <= 2 * MAX_TEXT
        assert record.duration >= 0
        assert len(record.events) <= MAX_EVENTS
        failed = any(test.outcome == "fail" and test.action in ("Enforce", "Drop") for test in record.tests)
        refusals = [line for line in self._sent.splitlines() if line.startswith(b"5")]
        rules = self._context.rules
        soft = rules is not None and rules.session.soft_fail
        footer = b"" if rules is None else rules.session.reject_footer.encode()
        own = [line for line in refusals if not (footer and line.endswith(footer))]
        for line in own:
            if line not in self._by_mta:
                assert not soft, f"not softened: {line!r}"
                assert failed or _plain(line).startswith(SYNTAX), f"5xx without a failed test: {line!r}"
        if rules is not None and rules.mode is Mode.OBSERVE and not self._by_mta:
            assert replies.COME_BACK not in self._sent, "Observe lets everybody on"
        if not failed:
            assert record.verdict not in (Verdict.REJECTED, Verdict.DROPPED)
        if record.verdict in (Verdict.DEFERRED, Verdict.ERROR, Verdict.OVERLOADED) and not self._by_mta:
            last = [line for line in self._sent.splitlines() if not (footer and line.endswith(footer))][-1:]
            assert not own or last != own[-1:] or _plain(own[-1]).startswith(SYNTAX), "our own fault is a 5xx"
        if failed:
            stored: dict[str, float] = {}
            for action in self.actions:
                if isinstance(action, StorePass):
                    stored |= {f"{action.key} {test}": expiry for test, expiry in action.expiries.items()}
            assert all(expiry in (passes.NEVER, passes.NOT_ENABLED) for expiry in stored.values()), (
                "a pass for who failed"
            )


def _plain(line: bytes) -> bytes:
    """A line of a reply as if it were the last one."""
    return line[:3] + b" " + line[4:]
