"""A connection to the MTA, made without blocking."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence

from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.environment import Environment

_RETRY = 0.02  # seconds; a unix socket whose queue is full says EAGAIN and can't be waited for (connect(2))


class Connector:
    """addresses: one or more, of one MTA, tried in order.

    Calls either connected(socket) or failed(sentence), once; `cancel` before that: neither.
    """

    def __init__(
        self,
        environment: Environment,
        addresses: Sequence[SocketAddress],
        connected: Callable[[socket.socket], None],
        failed: Callable[[str], None],
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._addresses = deque(addresses)
        self._connected = connected
        self._failed = failed
        self._socket: socket.socket | None = None
        timeouts = environment.timeouts
        limit = timeouts.connect_unix if addresses[0].family == socket.AF_UNIX else timeouts.connect_tcp
        self._give_up = environment.loop.now + limit

    def start(self) -> None:
        """Begin; the callbacks may come before this returns."""
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        loop = self._environment.loop
        try:
            pending = socket.socket(self._addresses[0].family, kind)
        except OSError as error:
            self._fail(error.strerror or "no socket")
            return
        self._environment.descriptors.opened += 1
        self._socket = pending
        code = pending.connect_ex(self._addresses[0].address)
        if code == 0:
            self._finish()
        elif code == errno.EINPROGRESS:
            try:
                loop.watch(pending.fileno(), self, select.EPOLLOUT)
            except OSError as error:  # no memory, or too many are watched (epoll_ctl(2))
                self._fail(error.strerror or "it cannot be waited for")
                return
            loop.set_deadline(self, self._give_up)
        elif code == errno.EAGAIN and loop.now < self._give_up:
            self._release()
            loop.set_deadline(self, min(loop.now + _RETRY, self._give_up))
        else:
            self._try_next(os.strerror(code))

    def cancel(self) -> None:
        """The connection is not wanted any more."""
        self._release()
        self._environment.loop.set_deadline(self, None)

    def handle_events(self, fd: int, events: int) -> None:
        """connect(2) has ended."""
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._try_next(os.strerror(code))
        else:
            self._finish()

    def handle_deadline(self) -> None:
        """Time for another try, or time to give up."""
        if self._socket is None and self._environment.loop.now < self._give_up:
            self.start()
        else:
            self._fail("no answer in time")

    def fail(self) -> None:
        """A defect: the owner ends its session."""
        self._fail("internal error")

    def _finish(self) -> None:
        connected, self._socket = self._socket, None
        assert connected is not None
        loop = self._environment.loop
        loop.watch(connected.fileno(), self, 0)
        loop.set_deadline(self, None)
        callback = self._connected
        self._forget_callbacks()
        callback(connected)

    def _try_next(self, why: str) -> None:
        if len(self._addresses) > 1 and self._environment.loop.now < self._give_up:
            self._release()
            self._addresses.popleft()
            self.start()
        else:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self.cancel()
        callback = self._failed
        self._forget_callbacks()
        callback(f"the MTA cannot be reached at {self._addresses[0]}: {why}")

    def _forget_callbacks(self) -> None:
        """They hold the owner, who holds us: a circle would stay in memory up to the next garbage collection."""
        self._connected = self._failed = _ignore

    def _release(self) -> None:
        if self._socket is not None:
            self._environment.loop.close(self._socket)
            self._environment.descriptors.opened -= 1
            self._socket = None


def _ignore(_: object) -> None:
    """In the place of a callback that was called."""
