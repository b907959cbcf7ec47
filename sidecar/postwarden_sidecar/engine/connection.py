"""One connection, without I/O: PROXY header, early tests, then the hand-off to the MTA or our own dialogue.

    HEADER -> (access) -> LOOKUP -> WAIT -> RECHECK -> HANDOFF -> CLOSED
                 |                    |                   | failed, and the greeting is open
                 +-> drop, HANDOFF    +-> DIALOG          +-> LAST_WORD -> CLOSED

The driver calls `receive_*`, `handle_timer` and `shut_down`, then takes actions by `next_action` until it gets None. Every state but
HANDOFF (the driver's deadlines) and CLOSED has a deadline. Each connection ends with one Observe, and with Close unless the MTA has the
client. Two leave no record, being a balancer's probes: a trusted proxy that closes without a byte, and LOCAL without a byte behind it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping

from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine import naming, replies
from postwarden_sidecar.engine.actions import (
    Close,
    Endpoints,
    EngineAction,
    HandOff,
    HandoffOutcome,
    Interest,
    LookupPass,
    Observe,
    Send,
    StorePass,
)
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.dialog import COMMAND_TIME_LIMIT, LINE_LENGTH_LIMIT, Dialog, Ending
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.proxy_header import Announced, BadHeader, HeaderParser
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind, Verdict
from postwarden_sidecar.engine.screening import DECIDED_BY, Screening, Step

LOOKUP_LIMIT = 1.0  # seconds; the driver answers within 5 ms, this is for one that does not
_HEADER, _LOOKUP, _WAIT, _RECHECK, _HANDOFF, _DIALOG, _LAST_WORD, _CLOSED = range(8)
_STAGES = ("screening", "screening", "screening", "screening", "handoff", "dialog", "dialog", "dialog")
_ENDING_EVENTS = {
    Ending.DATA: EventKind.DATA_WITHOUT_RCPT,
    Ending.COUNT: EventKind.COMMAND_COUNT_LIMIT,
    Ending.LENGTH: EventKind.COMMAND_LENGTH_LIMIT,
}
# A greeting of the MTA that refuses (RFC 5321, 3.1), bounded as its lines are (4.5.3.1.5: 512 bytes).
_REFUSAL = re.compile(r"[45][0-9]{2} [ -~]{0,500}", re.ASCII)


class Connection:
    """A client's connection, decided by its context to its end. interest: what the driver is to watch for."""

    __slots__ = (
        "_actions",
        "_context",
        "_deadline",
        "_dialog",
        "_elsewhere",
        "_endpoints",
        "_greeting_open",
        "_header",
        "_journal",
        "_last_word",
        "_read",
        "_rules",
        "_screening",
        "_state",
        "interest",
    )

    def __init__(
        self,
        context: Context,
        peer_address: str,
        peer_port: int,
        local_address: str,
        local_port: int,
        now: float,
        wall: float,
        announced: Announced | None = None,
        elsewhere: Callable[[Announced, int], bool] = lambda announced, size: False,
    ) -> None:
        """now: CLOCK_MONOTONIC seconds, as in every call; wall: epoch seconds of the same moment. announced: what a PROXY header said
        that was read before. elsewhere: asked once a header is whole whether another worker has this client, with the bytes of the
        header that wait in the socket still; if so, this engine has nothing more to do or to say. Raises ValueError if an address is
        none."""
        self.interest = Interest.HANGUP
        self._actions: deque[EngineAction] = deque()
        self._context = context
        self._rules = rules = context.rules
        facts = Facts(peer_address)
        local = Facts(local_address).address
        self._endpoints = Endpoints(facts.address, peer_port, local, local_port, facts.address, peer_port)
        self._journal = Journal(now, wall)
        self._screening = Screening(context, facts, self._journal)
        self._state = _LOOKUP
        self._deadline: float | None = None
        self._dialog: Dialog | None = None
        self._header: HeaderParser | None = None
        self._greeting_open = False  # a teaser is out, and no line yet that completes the greeting
        self._last_word = replies.NO_RESOURCES
        self._read = 0  # bytes read in DIALOG or LAST_WORD
        self._elsewhere = elsewhere
        if announced is not None:
            self._header = HeaderParser()
            self._header.announced, self._header.complete = announced, True
            self._know(announced)
            self._take(self._screening.begin(now), now)
        elif rules is not None and rules.proxy_trusted.lookup(facts.packed) is not None:
            self._header = HeaderParser()
            self._enter(_HEADER, Interest.PEEK, now + rules.proxy_timeout)
        else:
            self._take(self._screening.begin(now), now)

    @property
    def stage(self) -> str:
        """Of ipc.page.STAGES: "screening", "dialog" or "handoff"."""
        return _STAGES[self._state]

    # What the driver tells

    def receive_peek(self, data: bytes, now: float) -> int:
        """What waits in the client's socket, from its start (recv with MSG_PEEK). Returns how many bytes the driver must now discard by
        recv (a PROXY header, or a part of one); if interest is still PEEK then, what waits behind them is to be peeked at, too."""
        if not data or self._rules is None:
            return 0
        if self._state == _HEADER:
            return self._receive_header(data, now)
        if self._state == _WAIT:
            self._take(self._screening.spoke(self._rules, data, now), now)
        return 0

    def receive_bytes(self, data: bytes, now: float) -> None:
        """What was read from the client's socket (interest READ)."""
        if self._state == _DIALOG and self._dialog is not None:
            self._read += len(data)
            self._converse(self._dialog, data, now)
        elif self._state == _LAST_WORD:
            self._read += len(data)
            if b"\n" in data or self._read > LINE_LENGTH_LIMIT:
                self._turn_away(self._last_word, now)

    def receive_eof(self, now: float) -> None:
        """The client sent FIN: it counts as gone, for a mail client never closes one half only. In a hand-off the MTA decides what
        it means."""
        if self._state != _HANDOFF:
            self._hang_up(now, answer=True)

    def connection_lost(self, now: float) -> None:
        """The client reset the connection, or sending to it failed."""
        self._hang_up(now, answer=False)

    def receive_pass(self, expiries: Mapping[str, float], now: float) -> None:
        """The answer to LookupPass: test -> epoch seconds; {}: not known, or no answer in time."""
        if self._rules is None or self._state not in (_LOOKUP, _RECHECK):
            return
        step = self._screening.receive_pass(self._rules, expiries, now)
        if self._screening.earned:
            self._actions.append(StorePass(self._screening.facts.address, self._screening.earned))
        self._take(step, now)

    def receive_handoff(
        self, outcome: HandoffOutcome, detail: str, now: float, *, greeting_ended: bool
    ) -> None:
        """The end of HandOff. greeting_ended: the MTA's 220 reached the client.

        detail: with DONE the hand-off's name (rules.settings.Handoff's value); with REFUSED the last line of the MTA's greeting: if that is
        a 4xx or 5xx, it is the MTA's word and goes to the client; else a sentence for the record.
        """
        if self._state != _HANDOFF:
            return
        if outcome is HandoffOutcome.DONE:
            self._finish(now, handoff=detail)
            return
        self._journal.event(EventKind.HANDOFF_FAILED, now, outcome.value)
        self._judge(Verdict.DEFERRED, f"the hand-off failed ({outcome.value}): {detail[:MAX_TEXT]}")
        refused = outcome is HandoffOutcome.REFUSED and _REFUSAL.fullmatch(detail) is not None
        if refused:
            self._last_word = f"{detail}\r\n".encode("ascii")
        if self._greeting_open and not greeting_ended:
            # A greeting that was begun is always completed; its failure answers the first command (measured on postscreen).
            self._complete_greeting(now)
            self._enter(_LAST_WORD, Interest.READ, now + COMMAND_TIME_LIMIT)
        else:
            self._turn_away(self._last_word if greeting_ended or refused else replies.PORTS_BUSY, now)

    def shut_down(self, now: float) -> None:
        """Draining: whoever is in screening or in our dialogue gets 421 4.3.2; so does a new client, if this is called before its
        actions are taken. Whom the MTA has, or is about to get, stays. A greeting that was begun is completed first: `220-` and then
        `421` would be no SMTP reply, while a 421 in place of the answer to EHLO is one (RFC 5321, 3.8)."""
        if self._actions and isinstance(self._actions[-1], HandOff | LookupPass):
            self._actions.pop()  # not begun yet
            self._journal.handoff_start = -1.0
            self._state = _LOOKUP
        elif self._state in (_HANDOFF, _CLOSED):
            return
        if self._greeting_open:
            self._complete_greeting(now)
        if self._dialog is None or not self._dialog.refused:
            self._judge(Verdict.DEFERRED, "the sidecar is draining")
        self._turn_away(replies.DRAINING, now)

    def next_deadline(self) -> float | None:
        """When to call handle_timer, CLOCK_MONOTONIC seconds; None: in a hand-off, and when all is over."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """The deadline is reached; called early it does nothing."""
        if self._deadline is None or now < self._deadline:
            return
        if self._state == _HEADER:
            self._refuse_header("sent no whole PROXY header in time", now)
        elif self._state == _WAIT:
            self._take(self._screening.waited(now), now)
        elif self._state == _DIALOG and self._dialog is not None:
            self._journal.event(EventKind.COMMAND_TIME_LIMIT, now, self._dialog.last)
            self._turn_away(replies.timeout(self._dialog.hostname), now)
        elif self._state == _LAST_WORD:
            self._turn_away(self._last_word, now)
        else:
            self.receive_pass({}, now)

    def next_action(self) -> EngineAction | None:
        """The next thing to do, or None."""
        return self._actions.popleft() if self._actions else None

    # PROXY header

    def _receive_header(self, data: bytes, now: float) -> int:
        header = self._header
        assert header is not None
        try:
            size = header.receive(data)
        except BadHeader as error:
            self._refuse_header(f"sent no usable header: {error}", now)
            return 0
        if header.complete:
            if header.announced is not None:
                if self._elsewhere(header.announced, size):
                    self._leave()
                    return 0
                self._know(header.announced)
            self._take(self._screening.begin(now), now)
        return size

    def _know(self, announced: Announced) -> None:
        """From now on the client is whom the proxy speaks for."""
        self._screening.facts = Facts(announced.client_address)
        peer = self._endpoints
        self._endpoints = Endpoints(*announced, peer.peer_address, peer.peer_port)

    def _refuse_header(self, why: str, now: float) -> None:
        self._judge(Verdict.ERROR, f"{self._endpoints.peer_address} is a trusted proxy, but {why}")
        self._turn_away(replies.NO_RESOURCES, now)

    def _header_cut_off(self, now: float, *, answer: bool) -> None:
        """FIN or RST in place of a PROXY header, or within it."""
        assert self._header is not None
        if answer:
            self._actions.append(Send(replies.NO_RESOURCES))
        if self._header.size:
            why = "closed within its PROXY header"
            self._judge(Verdict.ERROR, f"{self._endpoints.peer_address} is a trusted proxy, but {why}")
            self._close(now, linger=False)
        else:
            self._leave()

    def _is_probe(self) -> bool:
        """The proxy speaks for itself (LOCAL), and said nothing more."""
        header = self._header
        spoke = self._screening.facts.said or self._read
        return header is not None and header.announced is None and not spoke

    # Screening's steps

    def _take(self, step: Step, now: float) -> None:
        rules = self._rules
        if step is Step.DROP:
            self._actions.append(Send(self._screening.standing.drop))
            # Straight from accept nothing is known to wait: no time is spent on looking.
            self._close(now, linger=self._header is not None or self._state != _LOOKUP)
        elif step is Step.HAND_OFF:
            self._journal.handoff_start = now - self._journal.began
            self._actions.append(HandOff(self._endpoints, self._greeting_open))
            self._enter(_HANDOFF, Interest.HANGUP, None)
        elif step is Step.LOOK_UP:
            self._actions.append(LookupPass(self._screening.facts.address))
            again = self._screening.facts.waited
            self._enter(_RECHECK if again else _LOOKUP, Interest.HANGUP, now + LOOKUP_LIMIT)
        elif step is Step.WAIT and rules is not None:
            banner = naming.known_banner(self._context)
            if banner:
                self._actions.append(Send(replies.teaser(banner)))
                self._greeting_open = True
            self._screening.begin_wait(now)
            self._enter(_WAIT, Interest.PEEK, now + rules.pregreet.wait)
        elif step is Step.CONVERSE:
            self._open_dialog(now)
        else:
            self._turn_away(replies.PORTS_BUSY, now)

    def _judge(self, verdict: Verdict, reason: str) -> None:
        self._screening.verdict = verdict
        self._screening.reason = reason

    # Our own dialogue

    def _complete_greeting(self, now: float) -> None:
        self._actions.append(Send(replies.greeting(naming.banner(self._context))))
        self._greeting_open = False
        self._journal.dialog_start = now - self._journal.began

    def _open_dialog(self, now: float) -> None:
        """A client under Enforce. One that spoke into a begun greeting gets no second line of it (as postscreen does)."""
        if self._greeting_open and self._screening.facts.said:
            self._greeting_open = False
            self._journal.dialog_start = now - self._journal.began
        else:
            self._complete_greeting(now)
        offered = self._context.ehlo
        self._dialog = Dialog(
            naming.hostname(self._context),
            None if offered is None else replies.without_starttls(offered),
            self._screening.standing.refusal,
        )
        self._enter(_DIALOG, Interest.READ, now + COMMAND_TIME_LIMIT)

    def _converse(self, dialog: Dialog, data: bytes, now: float) -> None:
        commands, refused = dialog.commands, len(dialog.refused)
        answers = dialog.receive(data)
        for recipient in dialog.refused[refused:]:
            self._journal.reject(now, recipient)
        if dialog.commands > commands:
            self._deadline = now + COMMAND_TIME_LIMIT  # it is for a whole command, not for one byte
        ending = dialog.ending
        if ending is None:
            if answers:
                self._actions.append(Send(answers))
            return
        if ending in _ENDING_EVENTS:
            self._journal.event(_ENDING_EVENTS[ending], now, dialog.last)
        elif ending is Ending.NOT_LEARNED:
            self._judge(Verdict.DEFERRED, "what the upstream offers after EHLO is not known yet")
        self._turn_away(answers, now)

    # The end

    def _turn_away(self, reply: bytes, now: float) -> None:
        self._actions.append(Send(reply))
        self._close(now, linger=True)

    def _hang_up(self, now: float, *, answer: bool) -> None:
        """The client is gone. answer: it may still read."""
        dialog = self._dialog
        if self._state == _CLOSED:
            return
        if self._state == _HEADER:
            self._header_cut_off(now, answer=answer)
        elif self._is_probe():
            self._leave()
        elif self._state == _HANDOFF:
            self._screening.reason += "; it hung up before the upstream had it"
            self._finish(now)
            self._actions.append(Close(linger=False))
        else:
            self._journal.event(
                EventKind.HANGUP, now, "before" if self._journal.dialog_start < 0 else "after"
            )
            if self._state != _LAST_WORD and not (dialog and dialog.refused):
                when = "before it named a recipient" if dialog else "before the greeting was complete"
                standing = self._screening.standing
                if standing.refusal:  # it failed a test; that it left before it heard so changes nothing
                    self._judge(Verdict.REJECTED, f"{standing.reason}; it hung up {when}")
                else:
                    self._judge(Verdict.HANGUP, f"{self._endpoints.client_address} hung up {when}")
            self._close(now, linger=False)

    def _close(self, now: float, *, linger: bool) -> None:
        # As in postscreen's log: no DISCONNECT without a CONNECT before it (a bad PROXY header), none where a hand-off failed at once.
        if self._journal.events and self._state != _HANDOFF:
            self._journal.event(EventKind.DISCONNECT, now)
        self._finish(now)
        self._actions.append(Close(linger))

    def _leave(self) -> None:
        """Close without a record."""
        self._enter(_CLOSED, Interest.HANGUP, None)
        self._actions.append(Close(linger=False))

    def _finish(self, now: float, handoff: str = "") -> None:
        """The verdict is known: the record."""
        self._enter(_CLOSED, Interest.HANGUP, None)
        screening, dialog = self._screening, self._dialog
        proxied = self._header is not None and self._header.announced is not None
        policy = None if self._rules is None else self._rules.policy
        record = self._journal.record(
            screening.verdict, screening.reason, self._endpoints, proxied, policy, now
        )
        record.handoff = handoff
        standing = screening.standing
        record.test = standing.test or DECIDED_BY.get(screening.verdict, "")
        if standing.test:
            record.action, record.would = standing.action, standing.would
        if dialog is not None:
            record.helo, record.proto = dialog.helo, dialog.proto
            record.sender, record.recipient = dialog.sender, dialog.recipient
        self._actions.append(Observe(record))

    def _enter(self, state: int, interest: Interest, deadline: float | None) -> None:
        self._state = state
        self.interest = interest
        self._deadline = deadline
