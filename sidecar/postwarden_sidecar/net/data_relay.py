"""The data of a mail to exempt recipients between two sockets: carries out `handoff.exempt_data`, and ends with its result.

Neither socket is its own. From the MTA's 354 on it watches both; when it is over it watches none.
"""

from __future__ import annotations

import select
import socket
from typing import Protocol

from postwarden_sidecar.handoff.exempt_data import DataResult, ExemptData
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.relay import READ_SIZE

_GONE = select.EPOLLHUP | select.EPOLLERR


class DataOwner(Protocol):
    """One of the three calls comes, once; perhaps before `start` returns."""

    def data_over(self, result: DataResult, unsent: bytes) -> None:
        """unsent: of the MTA's 354, what the client has not taken."""

    def data_lost(self) -> None:
        """The client went before all of the data was there."""

    def fail(self) -> None:
        """A defect of ours."""


class DataRelay:
    """data: where the mail stands."""

    def __init__(
        self,
        environment: Environment,
        client: socket.socket,
        mta: socket.socket,
        data: ExemptData,
        owner: DataOwner,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._client = client
        self._mta = mta
        self._data = data
        self._owner = owner
        if mta.family != socket.AF_UNIX:
            mta.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin."""
        self._settle()

    def handle_events(self, fd: int, events: int) -> None:
        """One of the two sockets is ready."""
        if fd == self._mta.fileno():
            if events & (select.EPOLLIN | _GONE):
                self._read_mta()
        elif events & _GONE or not self._serve_client(events):
            self.stop()
            self._owner.data_lost()
            return
        self._settle()

    def _serve_client(self, events: int) -> bool:
        """False: it is gone."""
        data = self._data
        if not events & select.EPOLLIN or not data.wants_client:
            return True
        try:
            received = self._client.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        data.receive_from_client(received, self._environment.loop.now)
        return received != b""

    def _read_mta(self) -> None:
        try:
            received = self._mta.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = b""
        if received:
            self._data.receive_from_mta(received, self._environment.loop.now)
        else:
            self._data.receive_mta_eof()

    def _send(self, target: socket.socket, waiting: bytearray) -> bool:
        """Send what target takes; False: it is gone."""
        try:
            sent = target.send(waiting, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        del waiting[:sent]
        return True

    def _settle(self) -> None:
        """Send what waits, end what is over, watch what is wanted."""
        data, loop = self._data, self._environment.loop
        if data.to_client and not self._send(self._client, data.to_client):
            self.stop()
            self._owner.data_lost()
            return
        if data.to_mta and data.result is None:
            before = len(data.to_mta)
            if not self._send(self._mta, data.to_mta):
                self._read_mta()  # why it broke off may be there to be read
                data.receive_mta_eof()
            elif len(data.to_mta) < before:
                data.moved(loop.now)
        if data.result is not None:
            self.stop()
            self._owner.data_over(data.result, bytes(data.to_client))
            return
        mask = select.EPOLLIN if data.wants_client else 0
        loop.watch(self._client.fileno(), self, mask | (select.EPOLLOUT if data.to_client else 0))
        loop.watch(self._mta.fileno(), self, select.EPOLLIN | (select.EPOLLOUT if data.to_mta else 0))
        loop.set_deadline(self, data.next_deadline())

    def handle_deadline(self) -> None:
        """Nothing has moved for long."""
        self._data.handle_timer(self._environment.loop.now)
        self._settle()

    def stop(self) -> None:
        """Watch neither socket any more."""
        loop = self._environment.loop
        loop.set_deadline(self, None)
        for watched in (self._client, self._mta):
            if watched.fileno() >= 0:
                loop.watch(watched.fileno(), self, 0)

    def fail(self) -> None:
        """A defect of ours."""
        self.stop()
        self._owner.fail()
