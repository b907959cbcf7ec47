"""One resolver by UDP: 64 connected sockets, each renewed after 1,000 queries.

Why so many: a forged reply must hit the source port as well as the id, and the kernel takes only the resolver's own datagrams in a
connected socket, which also tells of its refusals (ICMP). Why not one socket a query: its four system calls cost more than the query.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Protocol

from postwarden_sidecar.dns.message import (
    MalformedReply,
    Reply,
    decode_reply,
    encode_query,
    identifier_of,
)
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.loop import Loop

SOCKETS = 64  # a resolver (design)
QUERIES = 1000  # of one socket (design)
_RECEIVE = 4096  # bytes; more than we ask for, so that a reply that is too long is seen as it is
_BATCH = 64  # replies read from one socket before others have their turn
_RANDOM_BLOCK = 4096  # bytes asked of the kernel at once: one call for 2,048 numbers


class Asker(Protocol):
    """Who sent a query. Is told once, unless the query was forgotten."""

    def receive_reply(self, query: SentQuery, reply: Reply) -> None:
        """The resolver's reply to it."""

    def query_failed(self, query: SentQuery, *, refused: bool) -> None:
        """refused: nobody listens there, or it can't be reached; else its reply makes no sense."""


class SentQuery:
    """One query under way."""

    __slots__ = ("asked", "asker", "identifier", "resolver", "socket")

    def __init__(self, via: UdpSocket, identifier: int, asked: bytes, resolver: int, asker: Asker) -> None:
        """asked: of message.question. resolver: the asker's number of it."""
        self.socket = via
        self.identifier = identifier
        self.asked = asked
        self.resolver = resolver
        self.asker = asker

    def forget(self) -> None:
        """Its reply is not wanted any more."""
        self.socket.forget(self)


class Random16:
    """Unforeseeable numbers of 16 bits, from the kernel."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def draw(self) -> int:
        """The next one."""
        if self._at >= len(self._block):
            self._block, self._at = os.urandom(_RANDOM_BLOCK), 0
        self._at += 2
        return self._block[self._at - 2] << 8 | self._block[self._at - 1]


class UdpSocket:
    """A connected socket and the queries sent by it that wait."""

    __slots__ = ("_descriptors", "_loop", "_pending", "_retired", "_socket", "deadline", "queued_at", "sent")

    def __init__(self, loop: Loop, descriptors: Descriptors, address: SocketAddress) -> None:
        """Raises OSError."""
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.sent = 0
        self._loop = loop
        self._descriptors = descriptors
        self._pending: dict[int, SentQuery] = {}
        self._retired = False
        if not descriptors.for_handoff:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._socket = socket.socket(
            address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._socket.connect(address.address)
        except OSError:
            self._socket.close()
            raise
        descriptors.opened += 1
        loop.watch(self._socket.fileno(), self, select.EPOLLIN)

    def send(self, random: Random16, asked: bytes, resolver: int, asker: Asker) -> SentQuery:
        """Raises OSError."""
        identifier = random.draw()
        while identifier in self._pending:  # at most QUERIES wait
            identifier = random.draw()
        packet = encode_query(identifier, asked)
        self.sent += 1
        try:
            self._socket.send(packet)
        except (BlockingIOError, InterruptedError):
            pass  # as good as lost on its way
        except OSError:
            self._refused()  # an earlier query's refusal; this datagram did not go out
            if self._socket.fileno() < 0:
                raise
            self._socket.send(packet)
        query = SentQuery(self, identifier, asked, resolver, asker)
        self._pending[identifier] = query
        return query

    def forget(self, query: SentQuery) -> None:
        """A reply that still comes is ignored."""
        self._pending.pop(query.identifier, None)
        if self._retired and not self._pending:
            self._close()

    def retire(self) -> None:
        """No more queries: close once none waits."""
        self._retired = True
        if not self._pending:
            self._close()

    def handle_events(self, fd: int, events: int) -> None:
        """Replies, or a refusal."""
        for _ in range(_BATCH):
            if self._socket.fileno() < 0:
                return
            try:
                packet = self._socket.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._refused()
                continue
            self._receive(packet)

    def _receive(self, packet: bytes) -> None:
        identifier = identifier_of(packet)
        query = None if identifier is None else self._pending.get(identifier)
        if query is None:
            return
        try:
            reply = decode_reply(packet, query.identifier, query.asked)
        except MalformedReply:
            self.forget(query)
            query.asker.query_failed(query, refused=False)
            return
        if reply is not None:
            self.forget(query)
            query.asker.receive_reply(query, reply)

    def _refused(self) -> None:
        """ICMP does not say which query it is about; the resolver is the same for all."""
        pending, self._pending = self._pending, {}
        for query in pending.values():
            query.asker.query_failed(query, refused=True)
        if self._retired and not self._pending:
            self._close()

    def handle_deadline(self) -> None:
        """It has none."""

    def fail(self) -> None:
        """A defect in one reply's reading; the askers have their time limits."""

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.close(self._socket)
            self._descriptors.opened -= 1


class UdpResolver:
    """The sockets of one resolver, opened when they are first used."""

    def __init__(
        self, loop: Loop, descriptors: Descriptors, address: SocketAddress, random: Random16
    ) -> None:
        self._loop = loop
        self._descriptors = descriptors
        self.address = address
        self._random = random
        self._sockets: list[UdpSocket | None] = [None] * SOCKETS

    def send(self, asked: bytes, resolver: int, asker: Asker) -> SentQuery:
        """Ask by one of the sockets, drawn by lot. Raises OSError."""
        slot = self._random.draw() % SOCKETS
        chosen = self._sockets[slot]
        if chosen is None or chosen.sent >= QUERIES:
            fresh = UdpSocket(self._loop, self._descriptors, self.address)
            if chosen is not None:
                chosen.retire()
            self._sockets[slot] = chosen = fresh
        return chosen.send(self._random, asked, resolver, asker)

    def retire(self) -> None:
        """Close all sockets once their queries have ended."""
        sockets, self._sockets = self._sockets, [None] * SOCKETS
        for opened in sockets:
            if opened is not None:
                opened.retire()
