"""A session that is handed over in its middle, without I/O: the client's HELO or EHLO, its MAIL, and the RCPT or STARTTLS that
ended our dialogue are said to the MTA, one at a time.

One object a client: it outlives a hand-over that was only answered, for the MTA's refusal of a MAIL answers all recipients of that
transaction, and its session is kept for the next one (measured without this: later recipients bounce). The relay begins only when
greeting, HELO or EHLO, and MAIL got 2xx; the MTA's answer to RCPT, whatever it is, goes to the client. What is our fault, since our
dialogue offered or took what the MTA does not, or since the MTA can't be reached, is answered with 4xx, never with the MTA's 5xx.

Exempt recipients of a client that is refused are put to the MTA the same way, and answered: each in its turn, in one session, and at last
DATA (`exempt_data` goes on from there). Once one of them is taken, losing the MTA closes the client's session: else a mail would be lost.

Use: `begin`; if `wants_connection`, connect and call `connected` or `unreachable`; send `data_to_send` after each call, until `result`.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

from postwarden_sidecar.engine.actions import HandoverOutcome, Replay
from postwarden_sidecar.handoff.offers import promises_chunks, refuses_our_offer
from postwarden_sidecar.handoff.proof import offered_keywords
from postwarden_sidecar.handoff.replies import BadReply, Reply, ReplyParser
from postwarden_sidecar.handoff.reply_watch import is_plain_hello, is_sane

# Ours to answer for: the MTA did not take what our dialogue took (RFC 3463: 4.3.0, other mail system status).
NOT_TAKEN = b"450 4.3.0 Error: the mail system is not ready for this session, try again later\r\n"
NOT_TAKEN_TLS = b"454 4.3.0 TLS not available due to a temporary reason\r\n"  # RFC 3207, section 4
UNAVAILABLE = b"450 4.3.2 Service currently unavailable\r\n"
UNAVAILABLE_TLS = b"454 4.3.2 TLS not available due to a temporary reason\r\n"
TALKED_BEHIND_STARTTLS = LOST = b"421 4.3.2 Service currently unavailable\r\n"

_CLOSING = 421


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """Seconds for each reply of the MTA (design); from data on RFC 5321's, 4.5.3.2."""

    greeting: float = 30.0
    hello: float = 60.0
    mail: float = 60.0  # STARTTLS and RSET, too
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 300.0  # without a byte of the data moving
    end_of_data: float = 3600.0  # giving up makes a duplicate: as long as a relay may be silent


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """reply goes to the client. kept: the MTA's connection stays open for the next `begin`; else, but with DONE, it is to be closed. rest:
    with DONE, for the MTA, behind reply. client_silent: with DONE, only if the client has said nothing more; else `client_spoke` is to
    be called before anything is sent. wrong_answer: why the hand-off is to be proved anew, "" if it is not. wants_data: with DONE, and no
    relay: reply asks the client for the data of a mail to exempt recipients."""

    outcome: HandoverOutcome
    reply: bytes
    kept: bool = False
    rest: bytes = b""
    client_silent: bool = False
    wrong_answer: str = ""
    wants_data: bool = False


class _Step(enum.StrEnum):
    """Which reply of the MTA is awaited, by the words for it."""

    NOTHING = ""
    CONNECTION = "a connection"
    GREETING = "the greeting"
    HELLO = "HELO or EHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    STARTTLS = "STARTTLS"
    RSET = "RSET"
    DATA = "DATA"


class MtaDialog:
    """offered: keywords (upper case) that the client was offered in answer to EHLO.

    result: of the hand-over that `begin` began. learned: what the MTA offered in its last reply to EHLO, of what our dialogue may
    offer; None if it was not asked. alive: a connection to the MTA stands.
    """

    def __init__(self, offered: Collection[str], limits: ReplayLimits | None = None) -> None:
        self._offered = frozenset(offered)
        self._limits = limits or ReplayLimits()
        self._parser = ReplyParser()
        self._step = _Step.NOTHING
        self._replay = Replay(b"", b"", b"", b"")
        self._output = b""
        self._deadline: float | None = None
        self._said_hello = b""
        self._keywords: frozenset[str] | None = None  # of the MTA's last reply to EHLO
        self._refused: bytes | None = None  # answers all of this client's requests; b"": ours to answer for
        self._refused_mail: tuple[tuple[int, bytes, bytes], bytes] | None = None
        self._open: tuple[int, bytes, bytes] | None = None  # the transaction whose MAIL is taken,
        self._taken = False  # and a recipient of it
        self.alive = False
        self.learned: tuple[str, ...] | None = None
        self.result: ReplayResult | None = None

    @property
    def wants_connection(self) -> bool:
        """Whether the caller is to connect now."""
        return self._step is _Step.CONNECTION

    def next_deadline(self) -> float | None:
        """When to call handle_timer; None: not at all, or the caller's own limit for connecting holds."""
        return self._deadline

    def data_to_send(self) -> bytes:
        """Bytes for the MTA; each call gives them once."""
        output, self._output = self._output, b""
        return output

    def begin(self, replay: Replay, now: float) -> None:
        """The client's request is to be put to the MTA; `result` may stand at once."""
        self._replay = replay
        self.result = None
        if self._said_hello and replay.hello not in (b"", self._said_hello):
            # A second HELO or EHLO is for a session of its own: some MTAs refuse it (measured: OpenSMTPD 7.6, `503 Already identified`).
            self.alive = False
        if self._refused is not None:
            self._answer(self._refused or self._not_taken)
        elif replay.mail and self._refused_mail is not None and self._refused_mail[0] == self._transaction:
            self._answer(self._refused_mail[1], kept=self.alive)
        elif self._open == self._transaction and (self.alive or self._taken):
            self._say_request(now)
        elif self.alive and self._open is not None:
            self._open, self._taken = None, False
            self._say(_Step.RSET, b"RSET\r\n", now + self._limits.mail)
        elif self.alive:
            self._say_next(now)
        else:
            self._step = _Step.CONNECTION

    def connected(self, header: bytes, now: float) -> None:
        """A connection stands. header: of the PROXY protocol, or b""."""
        self._parser = ReplyParser()
        self._said_hello, self._keywords = b"", None
        self._open, self._taken = None, False
        self.alive = True
        self._output = header
        self._await(_Step.GREETING, now + self._limits.greeting)

    def unreachable(self) -> None:
        """None could be made."""
        self._lose()

    def receive_bytes(self, data: bytes, now: float) -> None:
        """What the MTA said. Between two hand-overs it has nothing to say but 421: its session is lost then."""
        if self._step is _Step.NOTHING:
            self.alive = False
            return
        self._parser.receive(data)
        try:
            while self.result is None and (reply := self._parser.next_reply()) is not None:
                self._receive_reply(reply, now)
        except BadReply as error:
            self._lose(f"in answer to {self._step.value} the MTA sent {error}")

    def receive_eof(self) -> None:
        """The MTA closed the connection, or it broke."""
        if self._step is _Step.NOTHING:
            self.alive = False
        else:
            self._lose()

    def handle_timer(self, now: float) -> None:
        """The deadline is reached; called early it does nothing."""
        if self._deadline is not None and now >= self._deadline:
            self._lose()

    def client_spoke(self) -> None:
        """There is input behind STARTTLS, in the clear: whoever put it there, it never reaches the MTA, for it would be read as said
        in TLS (CVE-2011-0411)."""
        self.alive = False
        self.result = ReplayResult(HandoverOutcome.CLOSE, TALKED_BEHIND_STARTTLS)

    def _receive_reply(self, reply: Reply, now: float) -> None:
        if not self._parser.starts_with(b"%d" % _CLOSING):
            self._lose(f"more than one reply to {self._step.value}: {reply}")
            return
        match self._step:
            case _Step.GREETING:
                self._receive_greeting(reply, now)
            case _Step.HELLO:
                self._receive_hello(reply, now)
            case _Step.MAIL:
                self._receive_mail(reply, now)
            case _Step.RCPT:
                self._receive_rcpt(reply)
            case _Step.STARTTLS:
                self._receive_starttls(reply)
            case _Step.DATA:
                self._receive_data(reply)
            case _Step.RSET:
                self._say_next(now) if reply.positive else self._lose()

    def _receive_greeting(self, reply: Reply, now: float) -> None:
        if reply.code == 220:
            self._say_next(now)
        elif reply.out_of_step or reply.code < 400:  # as in handoff.reply_watch
            wrong = f"the MTA's greeting is {reply}"
            self._refuse_client(b"", wrong) if reply.code >= 400 else self._lose(wrong)
        else:
            self._refused_by(reply)

    def _receive_hello(self, reply: Reply, now: float) -> None:
        if reply.positive:
            self._said_hello = self._replay.hello
            if self._extended:
                self._keywords = frozenset(
                    line.split()[0].decode("latin-1").upper() for line in reply.lines[1:] if line.split()
                )
                self.learned = offered_keywords(reply)
            self._say_next(now)
        elif reply.out_of_step:
            plain = is_plain_hello(self._replay.hello)
            self._refuse_client(b"", f"the MTA answered HELO or EHLO with {reply}" if plain else "")
        elif reply.code < 400:
            self._lose(f"the MTA answered HELO or EHLO with {reply}")
        else:
            self._refused_by(reply)

    def _refused_by(self, reply: Reply) -> None:
        """Greeting or HELO is refused, in the MTA's own words."""
        if reply.code == _CLOSING:
            self._close(reply)
        else:
            self._refuse_client(reply.wire, "")

    def _refuse_client(self, answer: bytes, wrong_answer: str) -> None:
        """All that this client asks for gets the same answer from now on."""
        self._refused = answer
        self.alive = False
        self._answer(answer or self._not_taken, wrong_answer=wrong_answer)

    def _receive_mail(self, reply: Reply, now: float) -> None:
        if reply.positive:
            self._open, self._taken = self._transaction, False
            self._say_request(now)
        elif reply.code == _CLOSING:
            self._close(reply)
        elif reply.code < 400:
            self._lose(f"the MTA answered MAIL with {reply}")
        else:
            ours = reply.out_of_step or self._lacked(reply, self._replay.mail)
            answer = NOT_TAKEN if ours else reply.wire
            self._refused_mail = (self._transaction, answer)
            self._answer(answer, kept=True)

    def _receive_rcpt(self, reply: Reply) -> None:
        if self._replay.exempt:
            self._receive_exempt(reply)
        elif self._lacked(reply, self._replay.request):
            self.alive = False  # with the MAIL that it took
            self._answer(NOT_TAKEN)
        else:
            self._done(reply.raw + self._parser.take_rest(), client_silent=False)

    def _receive_exempt(self, reply: Reply) -> None:
        """To one of several recipients perhaps: the session is kept, whatever the MTA says but 421."""
        if reply.code == _CLOSING:
            self._close(reply)
        elif 300 <= reply.code < 400:
            self._lose(f"the MTA answered RCPT with {reply}")
        else:
            self._taken = self._taken or reply.positive
            self._answer(NOT_TAKEN if self._lacked(reply, self._replay.request) else reply.wire, kept=True)

    def _receive_data(self, reply: Reply) -> None:
        if reply.code == 354 and self._parser.empty:
            self._end(ReplayResult(HandoverOutcome.DONE, reply.wire, rest=self._replay.rest, wants_data=True))
        elif reply.code >= 400:
            self._close(reply)
        else:
            self._lose(f"the MTA answered DATA with {reply}")

    def _receive_starttls(self, reply: Reply) -> None:
        if reply.code == 220:
            if self._parser.empty:
                self._done(reply.raw, client_silent=True)
            else:  # a 421 in the clear, which the client would read as said in TLS
                self._lose()
        elif reply.code == _CLOSING:
            self._close(reply)
        elif reply.code < 400:
            self._lose(f"the MTA answered STARTTLS with {reply}")
        else:
            ours = self._lacked(reply, self._replay.request)
            self._answer(NOT_TAKEN_TLS if ours else reply.wire, kept=True)

    def _lacked(self, reply: Reply, line: bytes) -> bool:
        return self._extended and refuses_our_offer(reply.code, line, self._offered, self._keywords)

    # What is said, and how it ends

    @property
    def _transaction(self) -> tuple[int, bytes, bytes]:
        return self._replay.transaction, self._replay.hello, self._replay.mail

    @property
    def _extended(self) -> bool:
        return self._replay.hello.lstrip(b" ")[:4].upper() == b"EHLO"

    @property
    def _not_taken(self) -> bytes:
        return NOT_TAKEN if self._replay.mail else NOT_TAKEN_TLS

    def _say_next(self, now: float) -> None:
        """The next of HELO or EHLO, MAIL or STARTTLS that this session of the MTA's has not heard yet."""
        replay = self._replay
        if replay.hello and replay.hello != self._said_hello:
            self._say(_Step.HELLO, replay.hello, now + self._limits.hello)
        elif replay.mail and promises_chunks(self._offered, self._keywords) and not replay.exempt:
            # Its BDAT would be refused for good when we only relay. It passed: when it comes back it hears the MTA's own offer.
            # (To exempt recipients no BDAT goes.)
            self._refuse_client(b"", "")
        elif replay.mail:
            self._say(_Step.MAIL, replay.mail, now + self._limits.mail)
        else:
            self._say(_Step.STARTTLS, replay.request, now + self._limits.mail)

    def _say_request(self, now: float) -> None:
        """In a transaction: RCPT, or DATA after exempt recipients. Lost with recipients that it took, the MTA's session can't go on."""
        if not self.alive:
            self._lose()
        elif self._replay.request == b"DATA\r\n":
            self._say(_Step.DATA, self._replay.request, now + self._limits.data)
        else:
            self._say(_Step.RCPT, self._replay.request, now + self._limits.rcpt)

    def _say(self, step: _Step, line: bytes, deadline: float) -> None:
        self._output += line
        self._await(step, deadline)

    def _await(self, step: _Step, deadline: float | None) -> None:
        self._step = step
        self._deadline = deadline

    def _done(self, reply: bytes, *, client_silent: bool) -> None:
        self._end(
            ReplayResult(HandoverOutcome.DONE, reply, rest=self._replay.rest, client_silent=client_silent)
        )

    def _answer(self, reply: bytes, *, kept: bool = False, wrong_answer: str = "") -> None:
        self._end(ReplayResult(HandoverOutcome.ANSWERED, reply, kept=kept, wrong_answer=wrong_answer))

    def _close(self, reply: Reply) -> None:
        self.alive = False
        self._end(ReplayResult(HandoverOutcome.CLOSE, reply.wire))

    def _lose(self, wrong_answer: str = "") -> None:
        """No connection, silence, garbage: the dialogue goes on, and the next request tries again. A client whose own command is odd
        can't call the hand-off into question."""
        wrong_answer = wrong_answer if self._sane else ""
        self.alive = False
        if self._replay.exempt and self._taken:
            self._end(ReplayResult(HandoverOutcome.CLOSE, LOST, wrong_answer=wrong_answer))
        else:
            self._answer(UNAVAILABLE if self._replay.mail else UNAVAILABLE_TLS, wrong_answer=wrong_answer)

    @property
    def _sane(self) -> bool:
        replay = self._replay
        return all(is_sane(line) for line in (replay.hello, replay.mail, replay.request) if line)

    def _end(self, result: ReplayResult) -> None:
        self._await(_Step.NOTHING, None)
        self._output = b""
        self.result = result
