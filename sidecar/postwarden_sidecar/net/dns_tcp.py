"""One question to a resolver by TCP, after its reply by UDP was truncated (RFC 7766): connect, ask, read one reply, close."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable

from postwarden_sidecar.dns.message import MalformedReply, Reply, decode_reply, encode_query
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.loop import Loop

_CHUNK = 16 * 1024  # bytes read at once; a reply has at most 65,535


class TcpExchange:
    """Calls ended(reply) once; None: no usable reply. Not after `cancel`, which its owner calls when its time is over."""

    def __init__(
        self,
        loop: Loop,
        descriptors: Descriptors,
        address: SocketAddress,
        identifier: int,
        asked: bytes,
        ended: Callable[[Reply | None], None],
    ) -> None:
        """Raises OSError."""
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._loop = loop
        self._descriptors = descriptors
        self._identifier = identifier
        self._asked = asked
        self._ended: Callable[[Reply | None], None] | None = ended
        query = encode_query(identifier, asked)
        self._output = len(query).to_bytes(2, "big") + query
        self._input = bytearray()
        if not descriptors.for_handoff:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._socket = socket.socket(
            address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        descriptors.opened += 1
        code = self._socket.connect_ex(address.address)
        if code not in (0, errno.EINPROGRESS):
            self.cancel()
            raise OSError(code, os.strerror(code))
        loop.watch(self._socket.fileno(), self, select.EPOLLOUT)

    def cancel(self) -> None:
        """No reply is wanted any more."""
        self._ended = None
        if self._socket.fileno() >= 0:
            self._loop.close(self._socket)
            self._descriptors.opened -= 1

    def handle_events(self, fd: int, events: int) -> None:
        """It takes the question, or has the reply."""
        try:
            if self._output:
                self._output = self._output[self._socket.send(self._output, socket.MSG_NOSIGNAL) :]
                if not self._output:
                    self._loop.watch(fd, self, select.EPOLLIN)
                return
            chunk = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(None)
            return
        self._input += chunk
        size = int.from_bytes(self._input[:2], "big")
        if len(self._input) >= 2 + size and len(self._input) > 2:
            self._end(self._decoded(bytes(self._input[2 : 2 + size])))
        elif not chunk:
            self._end(None)

    def _decoded(self, packet: bytes) -> Reply | None:
        try:
            reply = decode_reply(packet, self._identifier, self._asked)
        except MalformedReply:
            return None
        return None if reply is None or reply.truncated else reply

    def _end(self, reply: Reply | None) -> None:
        ended = self._ended
        self.cancel()
        if ended is not None:
            ended(reply)

    def handle_deadline(self) -> None:
        """It has none: its owner has."""

    def fail(self) -> None:
        """A defect in reading the reply."""
        self.cancel()
