"""Our own SMTP dialogue: with a client that is to pass tests within it, or is not to reach the MTA (it hears the refusal at RCPT, so that
sender and recipient are known to the log). Modelled on postscreen's (recorded cases), for RFC 5321 leaves open how to talk to such clients.

At RCPT or STARTTLS the session may be handed over: the dialogue then stops (`replay`) and goes on by `resume` if the MTA did not take it.
The recipients that everybody may write to are put to the MTA one by one in the same way, and then DATA, while all others hear the refusal.

Commands are read line by line; a line ends in LF, and a CR before it belongs to the end. Only a blank separates words. Memory is
bounded: a line that is not complete is kept up to the policy's length; the rest is answered at once, or dropped with the session. Mode
Observe only records limits; what must end nevertheless (memory) ends at OBSERVED_LINE_LENGTH.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from postwarden_sidecar.checks import exemptions
from postwarden_sidecar.engine import replies
from postwarden_sidecar.engine.actions import Replay
from postwarden_sidecar.engine.deep_tests import DeepTests
from postwarden_sidecar.engine.journal import Refused
from postwarden_sidecar.engine.mail_address import logged_address
from postwarden_sidecar.engine.record import MAX_TEXT
from postwarden_sidecar.rules.plain_members import plain_members
from postwarden_sidecar.rules.settings import Action, Session

OBSERVED_LINE_LENGTH = 8192  # bytes; what is kept of a connection's input at most (design)
# Bytes of replies that wait for a client before more of its commands are answered; a whole session's under a policy's default limits.
ANSWERS_AT_ONCE = 4096


@plain_members
class Ending(enum.Enum):
    """Why the dialogue is over."""

    QUIT = "quit"
    DATA = "data"  # DATA or BDAT: no recipient is ever valid here
    COUNT = "count"
    LENGTH = "length"
    DROPPED = "dropped"  # failed a test under Drop
    BEHIND_STARTTLS = (
        "behind_starttls"  # input waits behind STARTTLS: it must not be taken for what comes after TLS
    )
    ONE_MAIL = "one_mail"  # its mail to exempt recipients is answered
    NOT_LEARNED = "not_learned"  # EHLO before we know what to offer: our own fault


class Dialog:
    """One session. hostname: ours. offered: what EHLO may offer, None if not learned. refusal: the reply to each recipient, b"" where the
    session is to be handed over; a test that fails later sets it anew. session: the policy's limits. tests: those that run, None for none.
    observe: limits do not end the session. exempt: recipients that everybody may write to, as in `checks.exemptions`.

    ending: why the session is over, None while it is not. commands: how many were taken. last: the last command's name, as postscreen's
    limit messages show it. refused: the recipients that were, all of them. replay: the session is to be handed over; nothing more is read
    until `resume`. paused: commands may wait for `receive` to be called again, once the client has taken its replies. greeted: EHLO was
    said well. over_limit: of COUNT and LENGTH, those that were reached, and what `last` was then. helo, sender, recipient: as last said,
    bounded; proto: "", SMTP or ESMTP.
    """

    __slots__ = (
        "_buffer",
        "_chunking_offered",
        "_exempt",
        "_exempt_taken",
        "_farewell",
        "_hello_line",
        "_mail_line",
        "_raw",
        "_sender_given",
        "_session",
        "_transactions",
        "commands",
        "ending",
        "enforced",
        "greeted",
        "helo",
        "hostname",
        "last",
        "observe",
        "offered",
        "over_limit",
        "paused",
        "proto",
        "recipient",
        "refusal",
        "refused",
        "replay",
        "sender",
        "tests",
    )

    def __init__(
        self,
        hostname: str,
        offered: tuple[str, ...] | None,
        refusal: bytes,
        session: Session = Session(),  # noqa: B008  (frozen)
        tests: DeepTests | None = None,
        *,
        enforced: bool = True,
        observe: bool = False,
        exempt: tuple[str, ...] = (),
    ) -> None:
        """enforced: the client is to be refused for good: STARTTLS is not for it."""
        self.hostname = hostname
        self.offered = offered
        self.refusal = refusal
        self.enforced = enforced
        self.observe = observe
        self._session = session
        self.tests = tests
        self._buffer = b""
        self._raw = b""  # the line being answered, with its end
        self._hello_line = b""
        self._mail_line = b""
        self._transactions = 0  # MAIL commands taken
        self._sender_given = False
        self._exempt = exempt
        self._exempt_taken = 0  # exempt recipients of this transaction that the MTA has taken
        self._chunking_offered = self._farewell = False
        self.replay: Replay | None = None
        self.ending: Ending | None = None
        self.commands = 0
        self.last = "CONNECT"
        self.refused: list[Refused] = []
        self.over_limit: dict[Ending, str] = {}
        self.greeted = False
        self.paused = False
        self.helo = ""
        self.proto = ""
        self.sender = ""
        self.recipient = ""

    def receive(self, data: bytes, now: float = 0.0) -> bytes:
        """The replies to the commands that data completes: one each, and so few a session. now: CLOCK_MONOTONIC seconds."""
        if self.ending is not None:
            return b""
        self._buffer += data
        return b"" if self.replay is not None else self._work(now)

    def resume(self, reply: bytes, now: float) -> bytes:
        """The MTA did not take the session: reply is the answer to the request, then what waits is answered. A recipient's refusal is told
        by `refused`, too."""
        replay, self.replay = self.replay, None
        if replay is not None and replay.exempt and reply.startswith(b"2"):
            self._exempt_taken += 1
        elif replay is not None and replay.mail:
            self._refuse(reply.splitlines()[-1] if reply else b"")
        return reply + (self._work(now) if self.ending is None else b"")

    def finish(self) -> None:
        """The data of a mail to exempt recipients is over, and what was read went with it: QUIT is all that is left to say."""
        self.replay, self._buffer, self._farewell = None, b"", True

    @property
    def waiting(self) -> bytes:
        """What was read behind the last line that was answered."""
        return self._buffer

    def _work(self, now: float) -> bytes:
        limit = OBSERVED_LINE_LENGTH if self.observe else self._session.line_length_limit
        answers = b""
        self.paused = False
        while self.ending is None and self.replay is None:
            if len(answers) >= ANSWERS_AT_ONCE:
                self.paused = True
                return answers
            end = self._buffer.find(b"\n", 0, limit + 1)  # with the CR before it
            if end < 0:
                break
            self._raw, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
            answers += self.dressed(self._line(now))
        if self.ending is not None:
            self._buffer = b""
        elif self.replay is None and len(self._buffer) > limit:
            self._buffer = b""
            return answers + self._too_long()
        return answers

    def dressed(self, reply: bytes) -> bytes:
        """An own reply as the policy wants it."""
        return replies.dressed(reply, self._session)

    def _too_long(self) -> bytes:
        self.over_limit.setdefault(Ending.LENGTH, self.last)
        self.ending = Ending.LENGTH
        return self.dressed(replies.limit(self.hostname))

    def _line(self, now: float) -> bytes:
        line = self._raw[:-1].removesuffix(b"\r")
        if (
            len(line) >= self._session.line_length_limit
        ):  # a line is shorter than the limit, as postscreen has it
            self.over_limit.setdefault(Ending.LENGTH, self.last)
            if not self.observe:
                self.ending = Ending.LENGTH
                return replies.limit(self.hostname)
        tests = None if self._farewell else self.tests
        if tests is not None and not self._raw.endswith(b"\r\n"):
            dropped = self._failed(tests.bare_newline(line, now))
            if dropped:
                return dropped
        line = line.partition(b"\0")[0]  # as postscreen reads it (measured); what is replayed is `_raw`
        word, _, rest = line.lstrip(b" ").partition(b" ")
        arguments = rest.decode("latin-1").strip(" ")
        name = word.decode("latin-1").upper()
        handler = _COMMANDS.get(name)
        if self._farewell and name != "QUIT":
            self.ending = Ending.ONE_MAIL
            return replies.ONE_MAIL
        if tests is not None:
            if handler is None and name not in _REFUSED_COMMANDS:
                dropped = self._failed(tests.unknown_command(word, line.lstrip(b" "), self.last, now))
                if dropped:
                    return dropped
            if name != "BDAT":  # its data follows it (RFC 3030)
                dropped = self._failed(tests.pipelining(word.decode("latin-1"), self._buffer, now))
                if dropped:
                    return dropped
            if name == "RCPT":
                tests.well_behaved(now)
        self.commands += 1
        if self.commands > self._session.command_count_limit and name != "QUIT":
            self.over_limit.setdefault(Ending.COUNT, self.last)
            if not self.observe:
                self.ending = Ending.COUNT
                return replies.limit(self.hostname)
        self.last = name if handler is not None or name in _REFUSED_COMMANDS else "UNIMPLEMENTED"
        if name == "STARTTLS" and not arguments:
            return self._start_tls(now)
        return replies.NOT_RECOGNIZED if handler is None else handler(self, arguments)

    def _failed(self, acted: Action | None) -> bytes:
        """A test failed, and this is what comes of it: b"" if the dialogue goes on, else its last reply."""
        if acted is None or self.tests is None or acted is Action.IGNORE:
            return b""
        standing = self.tests.standing
        if acted is Action.DROP:
            self.ending = Ending.DROPPED
            return standing.drop
        self.refusal, self.enforced = standing.refusal, True
        return b""

    def _start_tls(self, now: float) -> bytes:
        if self.enforced or not self._offers("STARTTLS"):
            return replies.NOT_IMPLEMENTED
        if self._buffer:
            self.ending = Ending.BEHIND_STARTTLS
            return replies.NO_RESOURCES
        if self.tests is not None and self.greeted:
            self.tests.well_behaved(now)
        self.replay = Replay(self._hello_line, b"", self._raw, b"")
        return b""

    def _offers(self, keyword: str) -> bool:
        hidden = keyword in self._session.hidden_extensions
        return not hidden and any(line.partition(" ")[0].upper() == keyword for line in self.offered or ())

    def _helo(self, arguments: str) -> bytes:
        if not arguments:
            return replies.HELO_SYNTAX
        self._greeted_by(arguments, self.proto or "SMTP")  # after EHLO: still ESMTP, as postscreen has it
        return replies.hello(self.hostname)

    def _ehlo(self, arguments: str) -> bytes:
        if not arguments:
            return replies.EHLO_SYNTAX
        self._greeted_by(arguments, "ESMTP")
        if self.offered is None and (self._exempt or not self.refusal):  # the MTA may get this session
            self.ending = Ending.NOT_LEARNED
            return replies.NO_RESOURCES
        self.greeted = True
        hidden = self._session.hidden_extensions
        if self.enforced:
            hidden += ("STARTTLS", "CHUNKING") if self._exempt else ("STARTTLS",)
        self._chunking_offered = "CHUNKING" not in hidden
        offered = replies.HARMLESS if self.offered is None else self.offered
        return replies.extended_hello(self.hostname, replies.without(offered, hidden))

    def _greeted_by(self, name: str, proto: str) -> None:
        self.helo = name.partition(" ")[0][:MAX_TEXT]  # further words are left out, as postscreen does
        self.proto = proto
        self._hello_line = self._raw
        self._forget_sender()

    def _forget_sender(self) -> None:
        self._sender_given = False
        self._mail_line = b""
        self._exempt_taken = 0

    def _mail(self, arguments: str) -> bytes:
        if self._session.hello_required and not self.helo:
            return replies.HELO_FIRST
        if self._sender_given:
            return replies.NESTED_MAIL
        address = logged_address(arguments)
        if address is None:
            return replies.MAIL_SYNTAX
        self._sender_given = True
        self._mail_line = self._raw
        self._transactions += 1
        self.sender = address
        return replies.SENDER_OK

    def _rcpt(self, arguments: str) -> bytes:
        if not self._sender_given:
            return replies.NEED_MAIL
        address = logged_address(arguments)
        if address is None:
            return replies.RCPT_SYNTAX
        self.recipient = address
        if not self.refusal:
            self.replay = Replay(
                self._hello_line, self._mail_line, self._raw, self._buffer, self._transactions
            )
            return b""
        if self._passes_on():
            self.replay = self._exempted(self._raw)
            return b""
        refusal = replies.softened(self.refusal) if self._session.soft_fail else self.refusal
        self._refuse(refusal)
        return refusal

    def _passes_on(self) -> bool:
        """The recipient is exempt from the verdict. Who is only to come back comes back."""
        under_verdict = self.enforced and self.refusal != replies.COME_BACK
        return (
            under_verdict
            and exemptions.exempt(self._raw, self._exempt)
            and exemptions.passable(self._hello_line, self._mail_line)
        )

    def _exempted(self, request: bytes) -> Replay:
        hello, mail, request = map(exemptions.whole, (self._hello_line, self._mail_line, request))
        return Replay(hello, mail, request, self._buffer, self._transactions, exempt=True)

    def _refuse(self, reply: bytes) -> None:
        self.refused.append(Refused(reply, self.sender, self.recipient, self.helo, self.proto))

    def _data(self, arguments: str) -> bytes:
        if self._exempt_taken and not arguments:
            self.replay = self._exempted(b"DATA\r\n")
            return b""
        self.ending = Ending.DATA
        if arguments:
            return replies.DATA_SYNTAX
        return replies.NO_RECIPIENTS if self._sender_given else replies.NEED_RCPT

    def _bdat(self, arguments: str) -> bytes:
        self.ending = Ending.DATA
        if self._exempt_taken:  # 4xx to who was offered it before it failed a test: it may use DATA next time
            return replies.NO_RESOURCES if self._chunking_offered else replies.NOT_IMPLEMENTED
        # Only EHLO tells a client what it may not use, and the count is not looked at (measured).
        if self.greeted and "CHUNKING" in self._session.hidden_extensions:
            return replies.NOT_IMPLEMENTED
        if not arguments:
            return replies.BDAT_SYNTAX
        return replies.NO_RECIPIENTS if self._sender_given else replies.BDAT_NEEDS_MAIL

    def _rset(self, arguments: str) -> bytes:
        self._forget_sender()
        return replies.OK

    def _noop(self, arguments: str) -> bytes:
        return replies.OK

    def _vrfy(self, arguments: str) -> bytes:
        return (self.refusal or replies.NOT_VERIFIED) if arguments else replies.VRFY_SYNTAX

    def _etrn(self, arguments: str) -> bytes:
        if self._session.hello_required and not self.helo:
            return replies.HELO_FIRST
        return replies.NOT_QUEUED if arguments else replies.ETRN_SYNTAX

    def _starttls(self, arguments: str) -> bytes:
        return replies.STARTTLS_SYNTAX  # without arguments it is `_start_tls`'s

    def _quit(self, arguments: str) -> bytes:
        self.ending = Ending.QUIT
        return replies.BYE


_COMMANDS: dict[str, Callable[[Dialog, str], bytes]] = {
    "HELO": Dialog._helo,
    "EHLO": Dialog._ehlo,
    "MAIL": Dialog._mail,
    "RCPT": Dialog._rcpt,
    "DATA": Dialog._data,
    "BDAT": Dialog._bdat,
    "RSET": Dialog._rset,
    "NOOP": Dialog._noop,
    "VRFY": Dialog._vrfy,
    "ETRN": Dialog._etrn,
    "STARTTLS": Dialog._starttls,
    "QUIT": Dialog._quit,
}


# Commands that are known, and refused as unknown ones are: no test fails by them.
_REFUSED_COMMANDS = frozenset(("AUTH", "XCLIENT", "XFORWARD"))
