"""One of a relay's two sockets: read and written without blocking, and what waits for it."""

from __future__ import annotations

import socket

# Seconds, seconds, count (design): a peer that vanished is noticed after two minutes.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))


class Side:
    """One socket of the two. out: bytes that wait for it; ended: it sent FIN or broke; shut: we sent FIN;
    broken: it takes no more bytes."""

    __slots__ = ("broken", "ended", "out", "shut", "socket")

    def __init__(self, owned: socket.socket) -> None:
        self.socket = owned
        self.out = bytearray()
        self.ended = False
        self.shut = False
        self.broken = False
        if owned.family != socket.AF_UNIX:
            owned.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            owned.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                owned.setsockopt(socket.IPPROTO_TCP, option, value)

    def read(self, size: int) -> bytes | None:
        """What is there; b"" at the end, None if nothing waits."""
        try:
            data = self.socket.recv(size)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.break_off()
            return b""
        self.ended = self.ended or not data
        return data

    def write(self, data: bytes) -> None:
        """Send, keeping what the socket does not take."""
        if self.broken:
            return
        if self.out:
            self.out += data
        elif data:
            self.out += data[self._send(data) :]

    def flush(self) -> None:
        """Send what waits."""
        if self.out:
            with memoryview(self.out) as waiting:
                sent = self._send(waiting)
            del self.out[:sent]

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.socket.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except (BrokenPipeError, ConnectionResetError):  # what it said before may still be read
            self.broken = True
            return len(data)
        except (
            OSError
        ):  # the kernel has no memory, and will not tell when it has: bytes were lost, so this is the end
            self.ended = self.broken = True
            return len(data)

    def break_off(self) -> None:
        """The socket is of no use any more."""
        self.ended = self.broken = True
        self.out.clear()

    def shut_write(self) -> None:
        """Send FIN."""
        self.shut = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True
