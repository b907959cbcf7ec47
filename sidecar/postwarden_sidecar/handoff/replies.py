"""SMTP replies as a server sends them (RFC 5321, 4.2), read from a byte stream split anywhere.

The parser is strict where a hand-off's safety rests on it (three digits, one code in all lines of a reply)
and bounded: what is not a reply raises `BadReply` at once, so a wrong peer can't fill memory. A line may end
in LF alone, which some servers send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 2048  # bytes of a reply line; RFC 5321, 4.5.3.1.5 says 512, servers send longer texts
MAX_LINES = 100  # lines of one reply; the longest EHLO replies in the field have about 30
MAX_DETAIL = 160  # characters of a peer's words that we repeat in a sentence of ours

# Exim's 554 to who talks before its greeting (measured, 4.96): to a PROXY header that it does not expect. It is not about the client.
_OUT_OF_STEP = re.compile(rb"(?i)\bsynchronization error\b")
_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")


class BadReply(Exception):
    """The bytes are no SMTP reply; the message says what they are, escaped and bounded."""


@dataclass(frozen=True, slots=True)
class Reply:
    """code: 200 to 599; lines: the texts without code and line end; raw: the bytes as received, all lines."""

    code: int
    lines: tuple[bytes, ...]
    raw: bytes

    @property
    def positive(self) -> bool:
        """2xx."""
        return 200 <= self.code < 300

    @property
    def out_of_step(self) -> bool:
        """As a greeting, or to a command that any MTA knows: a PROXY header was taken for talk that came too early, or for no command."""
        return self.code in (500, 502, 503) or (
            self.code == 554 and _OUT_OF_STEP.search(self.lines[0]) is not None
        )

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463) of the first line, or ""."""
        match = _ENHANCED.match(self.lines[0])
        return match.group().decode("ascii") if match else ""

    @property
    def wire(self) -> bytes:
        """The reply with each line ended as RFC 5321 wants it, whatever the server did."""
        last = len(self.lines) - 1
        return b"".join(
            b"%d%s%s\r\n" % (self.code, b"-" if index < last else b" ", line)
            for index, line in enumerate(self.lines)
        )

    def __str__(self) -> str:
        """Code and first line, fit to be shown."""
        return escaped(b"%d %s" % (self.code, self.lines[0])).rstrip()


def escaped(data: bytes, limit: int = MAX_DETAIL) -> str:
    """A peer's bytes as printable ASCII: the rest as \\xNN, at most limit characters, cut with `...`."""
    text = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in data[: limit + 1]
    )
    return text if len(text) <= limit else text[: limit - 3] + "..."


class ReplyParser:
    """Takes bytes as they come, gives whole replies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parsed = 0  # bytes of it that are lines of a reply whose last line is not here
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def empty(self) -> bool:
        """No byte of a further reply is here."""
        return not self._buffer

    def starts_with(self, prefix: bytes) -> bool:
        """Whether what waits, if anything, is or may become a further reply that begins so."""
        return prefix.startswith(bytes(self._buffer[: len(prefix)]))

    def receive(self, data: bytes) -> None:
        """Take bytes. At most one reply too many is kept: the caller asks `next_reply` after each call."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None. Raises BadReply; the parser is of no use afterwards."""
        buffer = self._buffer
        while (end := buffer.find(b"\n", self._parsed, self._parsed + MAX_LINE)) >= 0:
            line = bytes(buffer[self._parsed : end]).removesuffix(b"\r")
            code, separator = line[:3], line[3:4]
            if not (
                len(code) == 3 and code.isdigit() and b"2" <= code < b"6" and separator in (b" ", b"-", b"")
            ):
                raise BadReply(f"no SMTP reply: {escaped(line)}")
            if self._lines and code != self._code:
                raise BadReply(f"a reply that changes its code from {self._code.decode()}: {escaped(line)}")
            if len(self._lines) == MAX_LINES:
                raise BadReply(f"a reply of more than {MAX_LINES} lines")
            self._code = code
            self._lines.append(line[4:])
            self._parsed = end + 1
            if separator != b"-":
                reply = Reply(int(code), tuple(self._lines), bytes(buffer[: self._parsed]))
                del buffer[: self._parsed]
                self._lines, self._parsed = [], 0
                return reply
        if len(buffer) - self._parsed >= MAX_LINE:
            long = bytes(buffer[self._parsed : self._parsed + 64])
            raise BadReply(f"a line of more than {MAX_LINE} bytes: {escaped(long)}")
        return None

    def take_rest(self) -> bytes:
        """All bytes that are no part of a reply returned so far; the parser forgets them."""
        rest = bytes(self._buffer)
        self._lines, self._parsed, self._buffer = [], 0, bytearray()
        return rest
