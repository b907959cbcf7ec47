"""The data of a mail to exempt recipients, without I/O: from the MTA's 354 to its reply to the dot.

The client is refused, so it gets no byte relay: another mail could follow within it. Bytes go to the MTA as they are, up to CRLF.CRLF and
not one more. A bare CR or LF ends it, and is not passed on: what some servers take for the end of the data others do not (SMTP smuggling,
CVE-2023-51764). The MTA's side is to be closed then; without the dot it has no mail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postwarden_sidecar.engine.actions import HandoverOutcome
from postwarden_sidecar.handoff.replay import LOST, ReplayLimits
from postwarden_sidecar.handoff.replies import BadReply, ReplyParser

MAX_BUFFER = (
    64 * 1024
)  # bytes that wait for the MTA before the client is no longer read; one read may go above it
TOO_SLOW = b"421 4.4.2 Error: timeout exceeded\r\n"
_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_CLOSING = 421


@dataclass(frozen=True, slots=True)
class DataResult:
    """outcome: EXEMPTED with the MTA's word, BARE_NEWLINE, or CLOSE with what the client is to hear. The MTA's side is to be closed."""

    outcome: HandoverOutcome
    reply: bytes


class DataFilter:
    """ended: the end of the data was found; what is behind it is dropped. bare: a bare CR or LF was found before it."""

    def __init__(self) -> None:
        self._before = b"\r\n"  # the last bytes that were passed on: DATA's own line ends before the first
        self._held = b""  # a CR whose LF has not come
        self.ended = False
        self.bare = False

    def feed(self, data: bytes) -> bytes:
        """What of the data may be passed on now."""
        if self.ended or self.bare:
            return b""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        window = self._before + data[: len(data) - len(self._held)]
        start, end = len(self._before), window.find(_END)
        stop = len(window) if end < 0 else end + len(_END)
        if _BARE.search(window, start, stop) is not None:
            self.bare = True
            return b""
        self.ended = end >= 0
        self._before = window[1 - len(_END) :]
        return window[start:stop]


class ExemptData:
    """One mail. to_mta, to_client: bytes that wait; the caller takes from their start what it has sent. result: it is over. prompt: the
    MTA's 354; rest: what of the client's input was read behind DATA."""

    def __init__(self, prompt: bytes, rest: bytes, now: float, limits: ReplayLimits) -> None:
        self.to_mta = bytearray()
        self.to_client = bytearray(prompt)
        self.result: DataResult | None = None
        self._filter = DataFilter()
        self._parser = ReplyParser()
        self._limits = limits
        self._deadline = now + limits.block
        if rest:
            self.receive_from_client(rest, now)

    @property
    def ended(self) -> bool:
        """The client has sent all: its end is no hang-up any more."""
        return self._filter.ended

    @property
    def wants_client(self) -> bool:
        """Whether the client is to be read."""
        return self.result is None and not self.ended and len(self.to_mta) < MAX_BUFFER

    def next_deadline(self) -> float:
        """When to call handle_timer."""
        return self._deadline

    def receive_from_client(self, data: bytes, now: float) -> None:
        """A part of the data, and perhaps what follows it."""
        if self.result is not None:
            return
        self.to_mta += self._filter.feed(data)
        if self._filter.bare:
            self.result = DataResult(HandoverOutcome.BARE_NEWLINE, b"")
        self.moved(now)

    def moved(self, now: float) -> None:
        """A byte has come from the client, or the MTA has taken one."""
        self._deadline = now + (self._limits.end_of_data if self.ended else self._limits.block)

    def receive_from_mta(self, data: bytes, now: float) -> None:
        """What the MTA said: its word on the mail, or before the end that it wants no more of it."""
        self._parser.receive(data)
        try:
            reply = self._parser.next_reply() if self.result is None else None
        except BadReply:
            self._lose()
            return
        if reply is None:
            return
        complete = self.ended and not self.to_mta
        if reply.code == _CLOSING or (reply.code < 400 and not (complete and reply.positive)):
            self.result = DataResult(HandoverOutcome.CLOSE, reply.wire if reply.code == _CLOSING else LOST)
        else:
            self.result = DataResult(HandoverOutcome.EXEMPTED, reply.wire)

    def receive_mta_eof(self) -> None:
        """The MTA closed the connection, or it broke."""
        self._lose()

    def handle_timer(self, now: float) -> None:
        """The deadline is reached; called early it does nothing."""
        if now >= self._deadline and self.result is None:
            self.result = DataResult(HandoverOutcome.CLOSE, LOST if self.ended else TOO_SLOW)

    def _lose(self) -> None:
        if self.result is None:
            self.result = DataResult(HandoverOutcome.CLOSE, LOST)
