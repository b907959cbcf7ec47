"""Our own SMTP dialogue, with a client that is not to reach the MTA: it hears the refusal at RCPT, so that sender and recipient
are known to the log. Modelled on postscreen's (recorded cases), for RFC 5321 leaves open how to talk to a client that is to be refused.

Commands are read line by line; a line ends in LF, and a CR before it belongs to the end. Only a blank separates words. Memory is
bounded: a line that is not complete is kept up to LINE_LENGTH_LIMIT; the rest is answered at once, or dropped with the session.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import NamedTuple

from postwarden_sidecar.engine import replies
from postwarden_sidecar.engine.record import MAX_TEXT

COMMAND_COUNT_LIMIT = 20  # commands; postscreen_command_count_limit's default. QUIT may be one too many
COMMAND_TIME_LIMIT = 300.0  # seconds for a whole command line; postscreen_command_time_limit's default
LINE_LENGTH_LIMIT = 2048  # bytes of a line without its end; line_length_limit's default

_ROUTE = re.compile(r"@[^:]*:")  # a source route before an address (RFC 5321, appendix C); to be ignored


class Ending(enum.Enum):
    """Why the dialogue is over."""

    QUIT = "quit"
    DATA = "data"  # DATA or BDAT: no recipient is ever valid here
    COUNT = "count"
    LENGTH = "length"
    NOT_LEARNED = "not_learned"  # EHLO before we know what to offer: our own fault


class Refused(NamedTuple):
    """A recipient that was refused, and what was known then; texts are bounded."""

    reply: bytes
    sender: str
    recipient: str
    helo: str
    proto: str


class Dialog:
    """One session. hostname: ours. offered: what EHLO may offer, None if not learned. refusal: the reply to each recipient; it may
    be set anew while the session lasts, if a later test fails.

    ending: why the session is over, None while it is not. commands: how many were taken. last: the last command's name, as postscreen's
    limit messages show it. refused: the recipients that were, all of them. helo, sender, recipient: as last said, bounded; proto: "", SMTP
    or ESMTP.
    """

    __slots__ = (
        "_buffer",
        "_sender_given",
        "commands",
        "ending",
        "helo",
        "hostname",
        "last",
        "offered",
        "proto",
        "recipient",
        "refusal",
        "refused",
        "sender",
    )

    def __init__(self, hostname: str, offered: tuple[str, ...] | None, refusal: bytes) -> None:
        self.hostname = hostname
        self.offered = offered
        self.refusal = refusal
        self._buffer = b""
        self._sender_given = False
        self.ending: Ending | None = None
        self.commands = 0
        self.last = "CONNECT"
        self.refused: list[Refused] = []
        self.helo = ""
        self.proto = ""
        self.sender = ""
        self.recipient = ""

    def receive(self, data: bytes) -> bytes:
        """The replies to the commands that data completes: one each, and so at most COMMAND_COUNT_LIMIT + 1 a session."""
        if self.ending is not None:
            return b""
        rest = self._buffer + data
        answers = b""
        start = 0
        while self.ending is None:
            end = rest.find(b"\n", start, start + LINE_LENGTH_LIMIT + 2)
            if end < 0:
                break
            answers += self._line(rest[start:end].removesuffix(b"\r"))
            start = end + 1
        self._buffer = b""
        if self.ending is None:
            if len(rest) - start > LINE_LENGTH_LIMIT + 1:  # more than a whole line, and the CR of its end
                self.ending = Ending.LENGTH
                return answers + replies.limit(self.hostname)
            self._buffer = rest[start:]
        return answers

    def _line(self, line: bytes) -> bytes:
        if len(line) > LINE_LENGTH_LIMIT:
            self.ending = Ending.LENGTH
            return replies.limit(self.hostname)
        word, _, arguments = line.decode("latin-1").lstrip(" ").partition(" ")
        name = word.upper()
        handler = _COMMANDS.get(name)
        self.commands += 1
        if self.commands > COMMAND_COUNT_LIMIT and name != "QUIT":
            self.ending = Ending.COUNT
            return replies.limit(self.hostname)
        self.last = name if handler is not None else "UNIMPLEMENTED"
        return replies.NOT_RECOGNIZED if handler is None else handler(self, arguments.strip(" "))

    def _helo(self, arguments: str) -> bytes:
        if not arguments:
            return replies.HELO_SYNTAX
        self._greeted_by(
            arguments, self.proto or "SMTP"
        )  # HELO after EHLO: still ESMTP, as postscreen has it
        return replies.hello(self.hostname)

    def _ehlo(self, arguments: str) -> bytes:
        if not arguments:
            return replies.EHLO_SYNTAX
        self._greeted_by(arguments, "ESMTP")
        if self.offered is None:
            self.ending = Ending.NOT_LEARNED
            return replies.NO_RESOURCES
        return replies.extended_hello(self.hostname, self.offered)

    def _greeted_by(self, name: str, proto: str) -> None:
        self.helo = name[:MAX_TEXT]
        self.proto = proto
        self._sender_given = False

    def _mail(self, arguments: str) -> bytes:
        if self._sender_given:
            return replies.NESTED_MAIL
        address = _address(arguments)
        if address is None:
            return replies.MAIL_SYNTAX
        self._sender_given = True
        self.sender = address
        return replies.SENDER_OK

    def _rcpt(self, arguments: str) -> bytes:
        if not self._sender_given:
            return replies.NEED_MAIL
        address = _address(arguments)
        if address is None:
            return replies.RCPT_SYNTAX
        self.recipient = address
        self.refused.append(Refused(self.refusal, self.sender, address, self.helo, self.proto))
        return self.refusal

    def _data(self, arguments: str) -> bytes:
        self.ending = Ending.DATA
        if arguments:
            return replies.DATA_SYNTAX
        return replies.NO_RECIPIENTS if self._sender_given else replies.NEED_RCPT

    def _bdat(self, arguments: str) -> bytes:
        self.ending = Ending.DATA
        count, _, last = arguments.partition(" ")
        if not (count.isascii() and count.isdigit()) or last.strip(" ").upper() not in ("", "LAST"):
            return replies.BDAT_SYNTAX
        return replies.NO_RECIPIENTS if self._sender_given else replies.BDAT_NEEDS_MAIL

    def _rset(self, arguments: str) -> bytes:
        self._sender_given = False
        return replies.OK

    def _noop(self, arguments: str) -> bytes:
        return replies.OK

    def _vrfy(self, arguments: str) -> bytes:
        return self.refusal if arguments else replies.VRFY_SYNTAX

    def _etrn(self, arguments: str) -> bytes:
        return replies.NOT_QUEUED if arguments else replies.ETRN_SYNTAX

    def _starttls(self, arguments: str) -> bytes:
        return replies.STARTTLS_SYNTAX if arguments else replies.NOT_IMPLEMENTED

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


def _address(arguments: str) -> str | None:
    """The address of MAIL's or RCPT's arguments, without brackets and source route; None if the colon is missing.

    Lenient, as postscreen is: the address is for the log only, and nearly anything is taken for one (`FROM:`, `FOO:<a>`, an unclosed `<`).
    """
    _, colon, path = arguments.partition(":")
    if not colon:
        return None
    path = path.lstrip(" ")
    if not path.startswith("<"):
        return path.partition(" ")[0][:MAX_TEXT]
    quoted = False
    end = len(path)
    for at, character in enumerate(path):
        if character == '"' and path[at - 1] != "\\":
            quoted = not quoted
        elif character == ">" and not quoted:
            end = at
            break
    address = path[1:end]
    return _ROUTE.sub("", address, count=1)[:MAX_TEXT] if address.startswith("@") else address[:MAX_TEXT]
