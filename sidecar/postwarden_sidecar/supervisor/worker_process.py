"""One worker process as the supervisor has it: started by exec with its descriptors, spoken to, and seen to
its end.

Exec and not fork: a worker stays lean, without what the supervisor has loaded. Its end is told by a pidfd, so
that no signal handler and no thread is needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

from postwarden_sidecar.engine.record import Recorded
from postwarden_sidecar.ipc.channel import Channel, ChannelFull, Message
from postwarden_sidecar.ipc.messages import ToSupervisor, ToWorker
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.ipc.pair import ChannelClosed, ChannelFault, close_all, make_pair
from postwarden_sidecar.ipc.records import receive_batch

_PACKETS_A_TURN = 16  # read from one pair before others have their turn

_log = logging.getLogger(__name__)


class WorkerEvents(Protocol):
    """Who is told what a worker says and does."""

    def received(self, worker: WorkerProcess, message: ToSupervisor) -> None:
        """A control message."""

    def recorded(self, records: Sequence[Recorded]) -> None:
        """Records of connections."""

    def ended(self, worker: WorkerProcess, status: int) -> None:
        """The process is gone; status: exit code, or minus the signal's number. Its last messages came
        before."""


class WorkerProcess:
    """A running worker."""

    def __init__(self, index: int, listener: socket.socket, page: Page, events: WorkerEvents) -> None:
        """Start it. Raises OSError if that can't be done now."""
        self.index = index
        self.ready = False
        self.applied = 0  # serial of the rules that its new connections are decided by
        self._events = events
        self._loop = asyncio.get_running_loop()
        near, control = make_pair()
        self._records, records = make_pair()
        self._channel = Channel(near)
        passed = (listener.fileno(), control.fileno(), records.fileno(), page.descriptor)
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # modules of the directory that we were started in are none of ours
                    "-m",
                    "postwarden_sidecar.worker",
                    f"--index={index}",
                    f"--listener={passed[0]}",
                    f"--control={passed[1]}",
                    f"--records={passed[2]}",
                    f"--page={passed[3]}",
                ],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=2,
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._channel.close()
            self._records.close()
            raise
        finally:
            control.close()
            records.close()
        self.pid = self._process.pid
        self._loop.add_reader(self._channel.fileno(), self._read_control)
        self._loop.add_reader(self._records.fileno(), self._read_records)
        self._loop.add_reader(self._pidfd, self._exited)

    def send(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        """Send or queue. A worker that is gone gets nothing; one that does not read is killed."""
        if self._channel.fileno() < 0:
            return  # it has ended, and was let go while an answer for it was looked up
        try:
            self._channel.send(message, descriptors)
        except ChannelClosed:
            return  # its end is told by the pidfd
        except ChannelFull:
            _log.error("worker %d does not read what it is told", self.index)
            self.kill()
            return
        if self._channel.wants_write:
            self._loop.add_writer(self._channel.fileno(), self._write_control)

    def kill(self) -> None:
        """End it at once."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _write_control(self) -> None:
        try:
            self._channel.flush()
        except ChannelClosed:
            self._loop.remove_writer(self._channel.fileno())
            return
        if not self._channel.wants_write:
            self._loop.remove_writer(self._channel.fileno())

    def _read_control(self) -> None:
        try:
            for _ in range(_PACKETS_A_TURN):
                received = self._channel.receive()
                if received is None:
                    return
                message, descriptors = received
                close_all(descriptors)  # a worker has none to give
                self._deliver(message)
        except ChannelClosed:
            self._loop.remove_reader(self._channel.fileno())
        except ChannelFault as error:
            _log.error("worker %d is ended, for it sent no message of ours: %s", self.index, error)
            self._loop.remove_reader(self._channel.fileno())
            self.kill()

    def _deliver(self, message: Message) -> None:
        if isinstance(message, ToSupervisor):
            self._events.received(self, message)
        else:
            raise ChannelFault(f"{type(message).__name__} is for workers")

    def _read_records(self) -> None:
        try:
            for _ in range(_PACKETS_A_TURN):
                records = receive_batch(self._records)
                if records is None:
                    return
                self._events.recorded(records)
        except ChannelClosed:
            self._loop.remove_reader(self._records.fileno())
        except ChannelFault as error:
            _log.error("records of worker %d can't be read: %s", self.index, error)

    def _exited(self) -> None:
        self._read_control()
        self._read_records()  # a pair holds at most a few packets, so this is all of them
        for descriptor in (self._channel.fileno(), self._records.fileno(), self._pidfd):
            self._loop.remove_reader(descriptor)
        self._loop.remove_writer(self._channel.fileno())
        status = self._process.wait()
        os.close(self._pidfd)
        self._channel.close()
        self._records.close()
        self._events.ended(self, status)
