"""The opening of a relay, without I/O: from the MTA's greeting to its reply to the client's first command.

Why the MTA is watched at all although the hand-off was proved: it may have been set up anew since. An MTA
that expects no PROXY header answers it like a command, from where on every reply is shifted by one and mail
bounces (measured). One that waits for a header takes the client's first line for it and believes what it says
(measured: it relayed for the world); hence no byte of the client goes to the MTA before its 220, and only the
first command goes before the reply to it. After that reply the relay knows no SMTP any more.
"""

from __future__ import annotations

import enum
import re

from postwarden_sidecar.handoff.replies import BadReply, Reply, ReplyParser, escaped

# bytes that wait for the end of the first command; a longer one is passed on as it comes
MAX_FIRST_LINE = 4096
# A command that any server reads as one: printable, 512 bytes with its end (RFC 5321, 4.5.3.1.4). What an MTA
# makes of another is its word to this client and no sign of a wrong hand-off: no client can call the hand-off
# into question.
_SANE = re.compile(rb"([\x20-\x7e]{1,510})\r?\n\Z")
_HELO = re.compile(
    rb"(?i:HELO|EHLO) [A-Za-z0-9._:\[\]-]{1,255}\r?\n\Z"
)  # with a name or an address literal, which none refuses as syntax
# characters of the greeting that are given to the client (RFC 5321, 4.5.3.1.5: 512 with the end)
_MAX_REFUSAL = 500
_UNASKED = 421  # a server may say it at any time (RFC 5321, 3.8)


def is_sane(line: bytes) -> bool:
    """Whether any server reads these bytes as one command."""
    return _SANE.match(line) is not None


def is_plain_hello(line: bytes) -> bool:
    """Whether the line is a HELO or EHLO that no server refuses for its form."""
    return _HELO.match(line) is not None


class WrongAnswer(Exception):
    """The MTA does not expect this hand-off; the message says what it said, escaped and bounded."""


class Refused(Exception):
    """The MTA turns the client away; the message is the last line of its greeting, 4xx or 5xx, printable and
    bounded: its word."""


class Stage(enum.Enum):
    """How far the opening is."""

    GREETING = enum.auto()  # nothing of the client may go to the MTA
    COMMAND = enum.auto()  # the client's first command is awaited
    REPLY = enum.auto()  # the MTA's reply to it is awaited; what else the client says waits
    OVER = enum.auto()  # from here on bytes go through as they are


class ReplyWatch:
    """Both directions of one session's opening. Once `stage` is OVER, call `take_rest` for what waits in
    either direction."""

    def __init__(self) -> None:
        self.stage = Stage.GREETING
        self._parser = ReplyParser()
        self._from_client = bytearray()
        self._sane = self._helo = False

    @property
    def wants_client(self) -> bool:
        """Whether bytes of the client are to be read now."""
        return self.stage in (Stage.COMMAND, Stage.OVER)

    def receive_from_mta(self, data: bytes) -> bytes:
        """Bytes for the client, whole replies. Raises WrongAnswer or Refused: both sides are to be closed,
        nothing is passed on."""
        self._parser.receive(data)
        output = b""
        try:
            while self.stage is not Stage.OVER and (reply := self._parser.next_reply()) is not None:
                self._judge(reply)
                output += reply.raw
        except BadReply as error:
            raise WrongAnswer(f"the MTA sent {error}") from error
        return output

    def _judge(self, reply: Reply) -> None:
        if self.stage is Stage.GREETING:
            if reply.code != 220 and (reply.code < 400 or reply.out_of_step):
                raise WrongAnswer(f"the MTA's greeting is {reply}")
            if reply.code != 220:
                raise Refused(escaped(b"%d %s" % (reply.code, reply.lines[-1]), _MAX_REFUSAL))
            self.stage = Stage.COMMAND
        elif reply.code == _UNASKED:
            self.stage = Stage.OVER
        elif self.stage is Stage.COMMAND:
            raise WrongAnswer(f"the MTA sent a second reply before the first command: {reply}")
        elif self._helo and reply.out_of_step:
            raise WrongAnswer(f"the MTA answered the first HELO or EHLO with {reply}")
        else:
            self.stage = Stage.OVER
            if self._sane and not self._parser.starts_with(b"%d" % _UNASKED):
                raise WrongAnswer(f"the MTA sent more than one reply to the first command: {reply}")

    def receive_from_client(self, data: bytes) -> bytes:
        """Bytes for the MTA: the first command, once it is whole; later ones wait for `take_rest`. Not to be
        called before the 220."""
        if self.stage is Stage.GREETING:
            raise ValueError("no byte of the client goes to the MTA before its 220")
        if self.stage is Stage.OVER:
            return data
        self._from_client += data
        if self.stage is Stage.REPLY:
            return b""
        end = self._from_client.find(b"\n")
        if end < 0 and len(self._from_client) < MAX_FIRST_LINE:
            return b""
        return self._pass_first(end + 1 or len(self._from_client))

    def receive_client_eof(self) -> bytes:
        """The client has sent FIN: what of its first command is there goes on."""
        return self._pass_first(len(self._from_client)) if self.stage is Stage.COMMAND else b""

    def _pass_first(self, length: int) -> bytes:
        first = bytes(self._from_client[:length])
        del self._from_client[:length]
        self._sane = is_sane(first)
        self._helo = self._sane and is_plain_hello(first)
        self.stage = Stage.REPLY
        return first

    def take_rest(self) -> tuple[bytes, bytes]:
        """(for the MTA, for the client): bytes that came while the opening was watched; each is given once."""
        waiting = bytes(self._from_client)
        self._from_client.clear()
        return waiting, self._parser.take_rest()

    def describe_silence(self) -> str:
        """What is missing, for a sentence such as `the MTA closed the connection before …`."""
        return "its greeting" if self.stage is Stage.GREETING else "it answered the first command"
