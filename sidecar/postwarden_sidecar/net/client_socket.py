"""The client's socket while it is ours: read as the engine wants, written without blocking, and what is known of its state.

At most one reply waits for a client that does not take it. Every method that touches the socket raises OSError when the client is lost.
"""

from __future__ import annotations

import select
import socket

from postwarden_sidecar.engine.actions import Interest
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.net.interest import wanted_events
from postwarden_sidecar.net.last_reply import say_last
from postwarden_sidecar.net.lingering import discard_input

MAX_INPUT = 8 * 1024  # bytes of one read or peek (design: at most 8 KiB of input are kept)


class ClientSocket:
    """owned: the socket itself. unsent: of a reply, what the client has not taken yet."""

    __slots__ = ("_at_end", "_eof_told", "_flush_by", "_peeked", "owned", "unsent")

    def __init__(self, owned: socket.socket) -> None:
        self.owned = owned
        self.unsent = b""
        self._flush_by: float | None = None
        self._peeked = 0
        self._eof_told = False
        self._at_end = False  # recv has returned the end: reading on would spin

    def serve(self, engine: Connection, now: float) -> None:
        """The socket is ready: send what waits, else tell the engine what is there."""
        if self.unsent:
            self._flush()
        elif engine.interest is Interest.READ:
            self._read(engine, now)
        elif engine.interest is Interest.PEEK:
            self._peek(engine, now)

    def send(self, data: bytes) -> None:
        """Send now what the client takes; nothing may be unsent."""
        self.unsent = data
        self._flush()

    def send_last(self, data: bytes) -> None:
        """The same, and nothing follows it."""
        try:
            self.unsent = data[say_last(self.owned, data) :]
        except (BlockingIOError, InterruptedError):
            self.unsent = data

    def take_end(self, events: int, interest: Interest) -> bool:
        """Whether the engine is to be told now that the client has ended, once: unless it reads, for then the end comes after the bytes."""
        told_later = interest in (Interest.READ, Interest.NOTHING)
        if not events & select.EPOLLRDHUP or self.unsent or self._eof_told or told_later:
            return False
        self._eof_told = True
        return True

    def events(self, interest: Interest) -> int:
        """What epoll is to report."""
        if self.unsent:
            mask = select.EPOLLOUT
        else:
            mask = wanted_events(
                interest, peeked=self._peeked > 0, eof_told=self._eof_told, at_end=self._at_end
            )
        if interest is not Interest.PEEK:
            self._peeked = 0
        return mask

    def deadline(self, engines: float | None, now: float, flush: float) -> float | None:
        """When to act next. engines: the engine's own deadline; once that has passed it has said its last word, and the client has flush
        seconds to take it."""
        if self.unsent:
            if engines is None or engines <= now:
                self._flush_by = self._flush_by or now + flush
            if self._flush_by is not None:
                return self._flush_by
        return engines

    def too_slow(self, now: float) -> bool:
        """The client has not taken our last word in time."""
        return self._flush_by is not None and now >= self._flush_by

    def discard_input(self) -> None:
        """Before a close: what waits would make an RST of our FIN."""
        discard_input(self.owned)

    def _flush(self) -> None:
        try:
            sent = self.owned.send(self.unsent, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return
        self.unsent = self.unsent[sent:]
        if not self.unsent:
            self._flush_by = None

    def _read(self, engine: Connection, now: float) -> None:
        try:
            data = self.owned.recv(MAX_INPUT)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            engine.receive_bytes(data, now)
        else:
            self._eof_told = self._at_end = True
            engine.receive_eof(now)

    def _peek(self, engine: Connection, now: float) -> None:
        while engine.interest is Interest.PEEK:
            try:
                data = self.owned.recv(MAX_INPUT, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return
            if len(data) <= self._peeked:
                return  # no news; the end is told by EPOLLRDHUP
            discard = engine.receive_peek(data, now)
            self._peeked = len(data)
            if discard == 0:
                return
            self.owned.recv(discard)
            self._peeked = 0
