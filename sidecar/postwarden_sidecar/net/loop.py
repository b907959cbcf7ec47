"""The event loop of a worker: epoll, level-triggered, and deadlines. It knows nothing of SMTP.

Why not asyncio: its transports read whatever is there, and a screening proxy must peek, wait, and give
sockets away whole; and a connection here costs a tenth of the memory.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
import traceback
from array import array
from collections.abc import Callable

from postwarden_sidecar.net.deadlines import Deadlines, Handler

MAX_EVENTS = 256  # events of one turn
MAX_SLEEP = 1.0  # seconds; the heartbeat is renewed at least so often


class Loop:
    """now: CLOCK_MONOTONIC seconds, read once a turn."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # By descriptor, which are small numbers: a fifth of what a dict takes for each client that waits.
        self._handlers: list[Handler | None] = []
        self._masks = array("I")  # 4 bytes each, where a list's numbers are 32 each when compiled
        self._closing: list[int] = []
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._make_room(self._wake)
        self.now = time.monotonic()
        self._deadlines = Deadlines(self.now)
        self.each_turn: list[Callable[[], None]] = []  # called at the end of every turn

    def watch(self, fd: int, handler: Handler, mask: int) -> None:
        """Watch a descriptor, or change what is watched. Mask 0 takes it out of epoll, which would report a
        hang-up again and again."""
        if fd >= len(self._masks):
            self._make_room(fd)
        before = self._masks[fd]
        if mask == before:  # no EPOLL_CTL_MOD: it would arm an edge-triggered descriptor again
            if mask:
                self._handlers[fd] = handler
            return
        if not mask:
            self._epoll.unregister(fd)
            self._masks[fd], self._handlers[fd] = 0, None
            return
        if before:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd] = mask
        self._handlers[fd] = handler

    def close(self, owned: socket.socket) -> None:
        """Stop watching a socket now, and close it at the end of the turn: its number must not come again
        while events of this turn wait."""
        fd = owned.detach()  # from here on owned.fileno() is -1, which says that it is closed
        if fd < 0:
            return
        if fd < len(self._masks) and (handler := self._handlers[fd]) is not None:
            self.watch(fd, handler, 0)
        self._closing.append(fd)

    def close_unshared(self, fd: int) -> None:
        """The same of a descriptor that was never watched, or whose socket no one else has: its close takes it out of epoll."""
        if fd < len(self._masks):
            self._masks[fd], self._handlers[fd] = 0, None
        self._closing.append(fd)

    def _make_room(self, fd: int) -> None:
        more = fd + 1 - len(self._masks)
        self._masks.frombytes(bytes(more * self._masks.itemsize))
        self._handlers += [None] * more

    def set_deadline(self, handler: Handler, when: float | None) -> None:
        """Call handle_deadline at `when`; None: never."""
        self._deadlines.set(handler, when)

    def stop(self) -> None:
        """Let `run` return. May be called from a signal handler or another thread."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Begin a turn now. May be called from a signal handler or another thread."""
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            self.turn()

    def turn(self) -> None:
        """Wait for events or the next deadline, and handle them."""
        sleep = MAX_SLEEP
        due = self._deadlines.next()
        if due is not None:
            sleep = min(sleep, max(0.0, due - time.monotonic()))
        events = self._epoll.poll(sleep, MAX_EVENTS)
        self.now = time.monotonic()
        for fd, bits in events:
            handler = self._handlers[fd]
            if handler is not None:
                try:
                    handler.handle_events(fd, bits)
                except Exception:
                    fail(handler)
            elif fd == self._wake:
                os.eventfd_read(self._wake)
        while (late := self._deadlines.take(self.now)) is not None:
            try:
                late.handle_deadline()
            except Exception:
                fail(late)
        for call in self.each_turn:
            call()
        for owned in self._closing:
            os.close(owned)
        self._closing.clear()

    def release(self) -> None:
        """Close what the loop itself owns. No other call follows."""
        for owned in self._closing:
            os.close(owned)
        self._closing.clear()
        self._epoll.close()
        os.close(self._wake)


def fail(handler: Handler) -> None:
    """One connection's defect ends that connection and no other."""
    traceback.print_exc(file=sys.stderr)
    handler.fail()
