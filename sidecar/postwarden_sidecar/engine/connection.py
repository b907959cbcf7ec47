"""One connection, without I/O: PROXY header, early tests, then the hand-off to the MTA or our own dialogue, and from there the hand-over.

    HEADER -> (limits, access) -> LOOKUP -> WAIT -> ENDING -> RECHECK -> HANDOFF -> CLOSED
                 |                            |        |         |          | failed, and the greeting is open
                 +-> drop, HANDOFF            +--------+---------+-> DIALOG +-> LAST_WORD -> CLOSED
                                                                      |   ^
                                                                      v   | not taken
                                                                    HANDOVER -> CLOSED

The driver calls `receive_*`, `handle_timer` and `shut_down`, then takes actions by `next_action` until it gets None. Every state but
HANDOFF and HANDOVER (the driver's) and CLOSED has a deadline. Each connection ends with one Observe, and with Close unless the MTA has the
client; a balancer's probes leave no record. What is decided is `screening`'s, what is said `dialog`'s; here is who is asked when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from postwarden_sidecar.checks.facts import Facts, normalise
from postwarden_sidecar.engine import naming, replies
from postwarden_sidecar.engine.actions import (
    IDLE,
    Close,
    DnsblAnswer,
    Endpoints,
    EngineAction,
    HandOff,
    HandoffOutcome,
    HandOver,
    HandoverOutcome,
    Interest,
    Load,
    LookupPass,
    Observe,
    PreparePass,
    QueryDnsbl,
    Send,
    direct,
)
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.conversation import Conversation, Turn
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.last_word import LastWord
from postwarden_sidecar.engine.outcome import final_record
from postwarden_sidecar.engine.proxy_header import Announced, BadHeader, HeaderParser
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind, Verdict
from postwarden_sidecar.engine.screening import Screening, Step
from postwarden_sidecar.rules.settings import Rules

UNNAMED_HANDOVER = "Inline"  # of a session handed over in its middle, where the driver does not say how
LOOKUP_LIMIT = 1.0  # seconds; the driver answers within 5 ms, this is for one that does not
ENDING = 0.005  # seconds of the wait that are left when passes are prepared: as long as the driver's answer may take
_HEADER, _LOOKUP, _WAIT, _ENDING, _RECHECK, _HANDOFF, _DIALOG, _HANDOVER, _LAST_WORD, _CLOSED = range(10)
_STAGES = ("screening",) * 5 + ("handoff", "dialog", "handoff", "dialog", "dialog")


class Connection:
    """A client's connection, decided by its context to its end. interest: what the driver is to watch for. endpoints: as known by now."""

    __slots__ = (
        "_actions", "_context", "_conversation", "_deadline", "_elsewhere", "_greeting_open", "_header", "_journal",
        "_last_word", "_read", "_rules", "_screening", "_state", "endpoints", "interest",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        peer_address: str,
        peer_port: int,
        local_address: str,
        local_port: int,
        now: float,
        wall: float,
        load: Callable[[str], Load] = lambda key: IDLE,
        announced: Announced | None = None,
        elsewhere: Callable[[Announced, int], bool] = lambda announced, size: False,
    ) -> None:
        """now: CLOCK_MONOTONIC seconds, as in every call; wall: epoch seconds of the same moment. load: asked once, when the client is
        known; key: its address, cut to limits.prefix_*. announced: by a PROXY header read before. elsewhere: asked once a header is
        whole, with how many bytes of it wait still: True if another worker has the client now. Raises ValueError if an address is none."""
        self.interest = Interest.HANGUP
        self._actions: tuple[EngineAction, ...] = ()  # a deque takes 0.7 KB of each client that waits
        self._context, self._rules = context, context.rules
        facts = Facts(peer_address)
        self.endpoints = direct(facts.address, peer_port, normalise(local_address)[0], local_port)
        self._journal = Journal(now, wall)
        self._screening = Screening(context, facts, self._journal, load)
        self._state = _LOOKUP
        self._deadline: float | None = None
        self._conversation: Conversation | None = None
        self._header = None if announced is None else HeaderParser(announced)
        self._greeting_open = False  # a teaser is out, and no line yet that completes the greeting
        self._last_word: LastWord | None = None
        self._read = 0  # bytes read in DIALOG or LAST_WORD
        if announced is None and (timeout := context.proxy_timeout(facts.packed)) is not None:
            self._header, self._elsewhere = HeaderParser(), elsewhere
            self._enter(_HEADER, Interest.PEEK, now + timeout)
        else:
            self._begin(now, announced)

    @property
    def stage(self) -> str:
        """Of ipc.page.STAGES: "screening", "dialog" or "handoff"."""
        return _STAGES[self._state]

    @property
    def said_all(self) -> bool:
        """No reply follows those that were taken."""
        return self._state == _CLOSED and not any(type(action) is Send for action in self._actions)

    def receive_peek(self, data: bytes, now: float) -> int:
        """What waits in the client's socket, from its start (recv with MSG_PEEK). Returns how many bytes the driver must now discard by
        recv (a PROXY header, or a part of one); if interest is still PEEK then, what waits behind them is to be peeked at, too."""
        if not data:
            return 0
        if self._state == _HEADER and self._header is not None:
            return self._receive_header(self._header, data, now)
        if self._state in (_WAIT, _ENDING) and self._rules is not None:
            self._step_on(self._screening.spoke(self._rules, data, now), now)
        return 0

    def receive_bytes(self, data: bytes, now: float) -> None:
        """What was read from the client's socket (interest READ)."""
        self._read += len(data)
        if self._state == _DIALOG and self._conversation is not None:
            self._go_on(self._conversation, self._conversation.receive(data, now), now)
        elif self._state == _LAST_WORD and self._last_word is not None:
            answer = self._last_word.receive(data)
            if answer is not None:
                self._turn_away(answer, now)

    def receive_eof(self, now: float) -> None:
        """The client sent FIN: it counts as gone, for no mail client closes one half only. In a hand-off the MTA decides."""
        if self._state not in (_HANDOFF, _HANDOVER):
            self._hang_up(now, answer=True)

    def connection_lost(self, now: float) -> None:
        """The client reset the connection, or sending to it failed."""
        self._hang_up(now, answer=False)

    def receive_pass(self, expiries: Mapping[str, float], now: float) -> None:
        """The answer to LookupPass: test -> epoch seconds; {}: not known, or no answer in time."""
        if self._rules is None or self._state not in (_LOOKUP, _RECHECK):
            return
        self._take(self._screening.receive_pass(self._rules, expiries, self.endpoints, now), now)

    def receive_dnsbl(self, answer: DnsblAnswer, now: float) -> bool:
        """An answer to QueryDnsbl; one that comes late, or twice, changes nothing. Whether `next_action` is to be asked now."""
        if self._rules is None or self._state not in (_WAIT, _ENDING):
            return False
        step = self._screening.receive_dnsbl(self._rules, answer, now)
        if step is not None:
            self._take(step, now)
        return step is not None

    def receive_handover(self, outcome: HandoverOutcome, reply: bytes, now: float) -> None:
        """The end of HandOver. reply: what the client is to hear: the MTA's word, or the driver's (4xx); with DONE the hand-off's name."""
        conversation = self._conversation
        if self._state != _HANDOVER or conversation is None:
            return
        if outcome is HandoverOutcome.DONE:
            self._finish(now, handoff=reply.decode("latin-1") or UNNAMED_HANDOVER)
            return
        self._go_on(conversation, conversation.not_taken(outcome, reply, now), now)

    def receive_handoff(
        self, outcome: HandoffOutcome, detail: str, now: float, *, greeting_ended: bool
    ) -> None:
        """The end of HandOff. greeting_ended: the MTA's 220 reached the client. detail: with DONE the hand-off's name
        (rules.settings.Handoff's value); with REFUSED the last line of the MTA's greeting: if it is a 4xx or 5xx, it is the MTA's word and
        goes to the client; else a sentence for the record."""
        if self._state != _HANDOFF:
            return
        if outcome is HandoffOutcome.DONE:
            self._finish(now, handoff=detail)
            return
        self._journal.event(EventKind.HANDOFF_FAILED, now, outcome.value)
        self._screening.judge(Verdict.DEFERRED, f"the hand-off failed ({outcome.value}): {detail[:MAX_TEXT]}")
        refused = outcome is HandoffOutcome.REFUSED and replies.REFUSAL.fullmatch(detail) is not None
        word = f"{detail}\r\n".encode("ascii") if refused else self._dressed(replies.NO_RESOURCES)
        if self._greeting_open and not greeting_ended:
            self._complete_greeting(now)
            self._last_word = LastWord(word, self._screening.session.line_length_limit)
            self._enter(_LAST_WORD, Interest.READ, now + self._screening.time_limit)
        else:
            self._turn_away(word if greeting_ended or refused else self._dressed(replies.PORTS_BUSY), now)

    def shut_down(self, now: float) -> None:
        """Draining: whoever is in screening or in our dialogue gets 421 4.3.2; so does a new client, if this is called before its
        actions are taken. Whom the MTA has, or is about to get, stays. A greeting that was begun is completed first: `220-` and then
        `421` would be no SMTP reply, while a 421 in place of the answer to EHLO is one (RFC 5321, 3.8)."""
        if self._actions and isinstance(self._actions[-1], HandOff | HandOver | LookupPass):
            self._actions = self._actions[:-1]  # not begun yet
            self._journal.handoff_start = -1.0
            self._state = _LOOKUP
        elif self._state in (_HANDOFF, _HANDOVER, _CLOSED):
            return
        if self._greeting_open:
            self._complete_greeting(now)
        talk = self._conversation
        self._screening.judge_drained(told=talk is not None and bool(talk.dialog.refused))
        self._turn_away(self._dressed(replies.DRAINING), now)

    def next_deadline(self) -> float | None:
        """When to call handle_timer, CLOCK_MONOTONIC seconds; None: in a hand-off, and when all is over."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """The deadline is reached; called early it does nothing."""
        if self._deadline is None or now < self._deadline:
            return
        if self._state == _HEADER:
            self._refuse_header("sent no whole PROXY header in time", now)
        elif self._state == _WAIT and self._rules is not None and now < self._deadline + ENDING:
            self._actions += tuple(PreparePass(key) for key in self._screening.keys_asked_again(self._rules))
            self._enter(_ENDING, self.interest, self._deadline + ENDING)
        elif self._state in (_WAIT, _ENDING) and self._rules is not None:
            self._take(self._screening.waited(self._rules, now), now)
        elif self._state == _DIALOG and self._conversation is not None:
            self._go_on(self._conversation, self._conversation.too_slow(now), now)
        elif self._state == _LAST_WORD:
            self._journal.event(EventKind.COMMAND_TIME_LIMIT, now, "CONNECT")
            self._turn_away(self._dressed(replies.timeout(naming.hostname(self._context))), now)
        else:
            self.receive_pass({}, now)

    def next_action(self) -> EngineAction | None:
        """The next thing to do, or None; to be asked when what was sent is out, so that replies do not pile up."""
        talk = self._conversation if self._state == _DIALOG else None
        if talk is not None and talk.dialog.paused and not self._actions:
            self._go_on(talk, talk.receive(b"", talk.now), talk.now)
        action, self._actions = (self._actions[0] if self._actions else None), self._actions[1:]
        return action

    def take_reply(self) -> bytes:
        """What is to be sent, if that is the next thing to do, to send it with what was taken before; else b""."""
        if not (self._actions and isinstance(first := self._actions[0], Send)):
            return b""
        self._actions = self._actions[1:]
        return first.data

    def _receive_header(self, header: HeaderParser, data: bytes, now: float) -> int:
        try:
            size = header.receive(data)
        except BadHeader as error:
            self._refuse_header(f"sent no usable header: {error}", now)
            return 0
        if header.complete:
            if header.announced is not None and self._elsewhere(header.announced, size):
                self._leave()
                return 0
            self._begin(now, header.announced)
        return size

    def _refuse_header(self, why: str, now: float) -> None:
        self._screening.judge(Verdict.ERROR, self._at_fault(why))
        self._turn_away(replies.NO_RESOURCES, now)

    def _header_cut_off(self, now: float, *, answer: bool) -> None:
        """FIN or RST in place of a PROXY header, which balancers' probes do, or within it."""
        if answer:
            self._send(replies.NO_RESOURCES)
        if self._header is None or not self._header.size:
            self._leave()
            return
        self._screening.judge(Verdict.ERROR, self._at_fault("closed within its PROXY header"))
        self._close(now, linger=False)

    def _at_fault(self, why: str) -> str:
        return f"{self.endpoints.peer_address} is a trusted proxy, but {why}"

    def _begin(self, now: float, announced: Announced | None) -> None:
        if announced is not None:  # the client is whom the proxy speaks for
            self._screening.facts, peer = Facts(announced.client_address), self.endpoints
            self.endpoints = Endpoints(*announced, peer.peer_address, peer.peer_port)
        self._take(self._screening.begin(self.endpoints, now), now)

    def _step_on(self, step: Step | None, now: float) -> None:
        """None: the wait goes on. A client that has spoken has nothing more to say that matters."""
        if step is not None:
            self._take(step, now)
        elif self._screening.facts.said:
            self.interest = Interest.HANGUP

    def _take(self, step: Step, now: float) -> None:
        rules, screening = self._rules, self._screening
        if step is Step.DROP:
            self._send(self._dressed(screening.standing.drop))
            # Straight from accept nothing is known to wait: no time is spent on looking.
            self._close(now, linger=self._header is not None or self._state != _LOOKUP)
        elif step is Step.HAND_OFF:
            self._journal.handoff_start = now - self._journal.began
            self._actions += (*screening.settle(now), HandOff(self.endpoints, self._greeting_open))
            self._enter(_HANDOFF, Interest.HANGUP, None)
        elif step is Step.LOOK_UP:
            self._actions += (LookupPass(screening.lookup_key),)
            again = screening.early is not None
            self._enter(_RECHECK if again else _LOOKUP, Interest.NOTHING, now + LOOKUP_LIMIT)
        elif rules is None or step is Step.TURN_AWAY:
            self._turn_away(self._dressed(screening.busy), now)
        elif step is Step.WAIT:
            early, wait = screening.begin_early(rules, now)
            # It counts from the question for passes: how long that took is our affair.
            asked = self._deadline - LOOKUP_LIMIT if self._state == _LOOKUP and self._deadline else now
            if (banner := naming.known_banner(self._context)) and early.listens:
                self._send(replies.teaser(banner))
                self._greeting_open = True
            if early.asks:
                self._actions += (QueryDnsbl(screening.facts.address),)
            self._enter(_WAIT, Interest.PEEK if early.listens else Interest.HANGUP, asked + wait - ENDING)
        else:
            self._open_dialog(rules, now)

    def _complete_greeting(self, now: float, *, silent: bool = False) -> None:
        if not silent:
            self._send(replies.greeting(naming.banner(self._context)))
        self._greeting_open = False
        self._journal.dialog_start = now - self._journal.began

    def _open_dialog(self, rules: Rules, now: float) -> None:
        """To test further, or to refuse. Who is refused for speaking into a begun greeting gets no second line of it (as postscreen)."""
        early = self._screening.early
        self._complete_greeting(now, silent=self._greeting_open and early is not None and early.refused)
        self._conversation = Conversation(self._context, rules, self._screening, self._journal, now)
        self._enter(_DIALOG, Interest.READ, self._conversation.deadline)

    def _go_on(self, conversation: Conversation, turn: Turn, now: float) -> None:
        """Act upon what came of the client's words."""
        if turn.over:
            self._turn_away(turn.answers, now)
            return
        self._send(turn.answers)
        if turn.replay is None:
            self._enter(_DIALOG, Interest.READ, conversation.deadline)
            return
        self._actions += self._screening.settle(now)  # the pass is stored before the replay
        self._journal.handoff_start = now - self._journal.began
        self._actions += (HandOver(self.endpoints, turn.replay),)
        self._enter(_HANDOVER, Interest.HANGUP, None)

    def _send(self, data: bytes) -> None:
        if data:
            self._actions += (Send(data),)

    def _dressed(self, reply: bytes) -> bytes:
        return replies.dressed(reply, self._screening.session)

    def _turn_away(self, reply: bytes, now: float) -> None:
        self._send(reply)
        self._close(now, linger=True)

    def _hang_up(self, now: float, *, answer: bool) -> None:
        """The client is gone. answer: it may still read."""
        if self._state == _CLOSED:
            return
        if self._state == _HEADER:
            self._header_cut_off(now, answer=answer)
        elif self._header and self._header.is_local and not (self._screening.facts.said or self._read):
            self._leave()  # the proxy speaks for itself, and said nothing more: a probe
        elif self._state in (_HANDOFF, _HANDOVER):
            self._screening.judge_lost()
            self._finish(now)
            self._actions += (Close(linger=False),)
        else:
            when = "before" if self._journal.dialog_start < 0 else "after"
            self._journal.event(EventKind.HANGUP, now, when)
            if self._state != _LAST_WORD:
                talk = self._conversation
                when = "before the greeting was complete" if talk is None else "before it named a recipient"
                told = talk is not None and bool(talk.dialog.refused)
                self._screening.judge_unfinished(f"it hung up {when}", told=told)
            self._close(now, linger=False)

    def _close(self, now: float, *, linger: bool) -> None:
        if self._conversation is not None:
            self._actions += self._screening.settle(now)
        # As in postscreen's log: no DISCONNECT without a CONNECT before it (a bad PROXY header), none where a hand-off failed at once.
        if self._journal.events and self._state != _HANDOFF:
            self._journal.event(EventKind.DISCONNECT, now)
        self._finish(now)
        self._actions += (Close(linger),)

    def _leave(self) -> None:
        """Close without a record."""
        self._enter(_CLOSED, Interest.HANGUP, None)
        self._actions += (Close(linger=False),)

    def _finish(self, now: float, handoff: str = "") -> None:
        """The verdict is known: the record."""
        self._enter(_CLOSED, Interest.HANGUP, None)
        proxied = self._header is not None and self._header.announced is not None
        screening, talk = self._screening, self._conversation
        record = final_record(self._journal, screening, talk, self.endpoints, proxied, self._rules, now)
        record.handoff = handoff
        self._actions += (Observe(record),)

    def _enter(self, state: int, interest: Interest, deadline: float | None) -> None:
        self._state, self.interest, self._deadline = state, interest, deadline
