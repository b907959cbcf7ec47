"""One resolver by UDP: 64 connected sockets, each renewed after 1,000 queries.

Why so many: a forged reply must hit the source port as well as the id, and the kernel takes only the resolver's own datagrams in a
connected socket, which also tells of its refusals (ICMP). Why not one socket a query: its four system calls cost more than the query.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from array import array
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
    """One query under way. asked: of message.question. resolver, zone: the asker's numbers of whom and what it asks."""

    __slots__ = ("asked", "asker", "identifier", "resolver", "socket", "zone")

    def __init__(
        self, via: UdpSocket, identifier: int, asked: bytes, resolver: int, zone: int, asker: Asker
    ) -> None:
        self.socket = via
        self.identifier = identifier
        self.asked = asked
        self.resolver = resolver
        self.zone = zone
        self.asker = asker

    def forget(self) -> None:
        """Its reply is not wanted any more."""
        self.socket.forget(self)


class Random16:
    """Unforeseeable numbers of 16 bits, from the kernel."""

    def __init__(self) -> None:
        self._numbers = array("H")

    def draw(self) -> int:
        """The next one."""
        if not self._numbers:
            self._numbers.frombytes(os.urandom(_RANDOM_BLOCK))
        return self._numbers.pop()


class UdpSocket:
    """A connected socket and the queries sent by it that wait."""

    __slots__ = (
        "_descriptors", "_loop", "_pending", "_random", "_receive", "_retired", "_send", "_socket", "deadline", "queued_at",
        "sent",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, descriptors: Descriptors, address: SocketAddress, random: Random16
    ) -> None:
        """Raises OSError."""
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.sent = 0
        self._loop = loop
        self._descriptors = descriptors
        self._random = random
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
        self._send, self._receive = self._socket.send, self._socket.recv
        descriptors.opened += 1
        loop.watch(self._socket.fileno(), self, select.EPOLLIN)

    def send(self, asked: bytes, resolver: int, zone: int, asker: Asker) -> SentQuery:
        """Raises OSError. An earlier query's refusal may come up in this call: its asker is told before this returns."""
        pending = self._pending
        identifier = self._random.draw()
        while identifier in pending:  # some QUERIES wait at most
            identifier = self._random.draw()
        packet = encode_query(identifier, asked)
        self.sent += 1
        try:
            self._send(packet)
        except (BlockingIOError, InterruptedError):
            pass  # as good as lost on its way
        except OSError:
            self._refused()  # an earlier query's refusal; this datagram did not go out
            if self._socket.fileno() < 0:
                raise
            self._send(packet)
        query = self._pending[identifier] = SentQuery(self, identifier, asked, resolver, zone, asker)
        return query

    def forget(self, query: SentQuery) -> None:
        """A reply that still comes is ignored."""
        if self._pending.get(query.identifier) is query:
            del self._pending[query.identifier]
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
            try:
                packet = self._receive(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._refused()
                if self._socket.fileno() < 0:
                    return
            else:
                if self._read(packet) and not self._pending:
                    return  # all is answered, and the socket may be closed by now; what else waits is told of in the next turn

    def _read(self, packet: bytes) -> bool:
        """Whether it was a reply to one of our queries."""
        identifier = identifier_of(packet)
        query = None if identifier is None else self._pending.get(identifier)
        if query is None:
            return False
        try:
            reply = decode_reply(packet, query.identifier, query.asked)
        except MalformedReply:
            self.forget(query)
            query.asker.query_failed(query, refused=False)
            return True
        if reply is None:
            return False
        self.forget(query)
        query.asker.receive_reply(query, reply)
        return True

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

    def draw(self) -> UdpSocket:
        """One of the sockets, by lot, for some queries that are sent now. Raises OSError."""
        slot = self._random.draw() % SOCKETS
        chosen = self._sockets[slot]
        if chosen is None or chosen.sent >= QUERIES:
            fresh = UdpSocket(self._loop, self._descriptors, self.address, self._random)
            if chosen is not None:
                chosen.retire()
            self._sockets[slot] = chosen = fresh
        return chosen

    def retire(self) -> None:
        """Close all sockets once their queries have ended."""
        sockets, self._sockets = self._sockets, [None] * SOCKETS
        for opened in sockets:
            if opened is not None:
                opened.retire()
