"""Which worker has which clients: the steering in force, the pairs between workers, and who stands in for a worker that is out.

A worker that dies again and again is out: no new client is steered to it, and another one accepts those that wait in its socket. Its own
next life accepts from there, too; once it has lived long enough it is back.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from postwarden_sidecar.ipc.messages import AcceptAlso, AcceptNoMore, Neighbour, SteeringInForce
from postwarden_sidecar.ipc.page import CELLS, STEERING_FAILED, SUPERVISOR, Page
from postwarden_sidecar.ipc.pair import make_pair
from postwarden_sidecar.net.steering import V6_BITS, Steering
from postwarden_sidecar.supervisor.worker_process import WorkerProcess

_log = logging.getLogger(__name__)


class Shares:
    """listeners: a group that `Steering(len(listeners))` is attached to, if there are several. running: the workers, by index; it
    is read, never changed. page, on_problem: tell of a steering that fails, on_problem in one sentence, and with "" when one has not."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        running: Mapping[int, WorkerProcess],
        page: Page,
        on_problem: Callable[[str], None],
    ) -> None:
        self._listeners = listeners
        self._on_problem = on_problem
        self._page = page
        self._running = running
        self._steering = Steering(len(listeners))
        self._stand_ins: dict[
            int, int | None
        ] = {}  # of each worker that is out; None: nobody could be found yet

    @property
    def out(self) -> tuple[int, ...]:
        """Workers that get no new clients."""
        return self._steering.out

    def set_prefixes(self, ipv4: int, ipv6: int) -> None:
        """Bits of an address that are one client, from now on."""
        self._steer(replace(self._steering, ipv4=ipv4, ipv6=min(ipv6, V6_BITS)))

    def started(self, worker: WorkerProcess) -> None:
        """A process is there; it does not accept yet."""
        worker.send(self._message())

    def accepts(self, worker: WorkerProcess) -> None:
        """It accepts, and so can be given clients."""
        for other in self._running.values():
            if other is not worker and other.ready:
                near, far = make_pair()
                with near, far:
                    worker.send(Neighbour(other.index), [near.fileno()])
                    other.send(Neighbour(worker.index), [far.fileno()])
        self._find_stand_ins()

    def died(self, index: int) -> None:
        """Its process is gone. Whom it stood in for needs another."""
        for out, stand_in in self._stand_ins.items():
            if stand_in == index:
                self._stand_ins[out] = None
        self._find_stand_ins()

    def give_up(self, index: int) -> None:
        """Put a worker out, unless no other is left."""
        if index in self.out or len(self.out) + 1 >= len(self._listeners):
            return
        _log.error("worker %d dies again and again: its clients go to others for now", index)
        self._stand_ins[index] = None
        self._steer(replace(self._steering, out=tuple(sorted((*self.out, index)))))
        self._find_stand_ins()

    def take_back(self, index: int) -> None:
        """It has lived long enough."""
        _log.warning("worker %d is back: its clients go to it again", index)
        self._steer(replace(self._steering, out=tuple(out for out in self.out if out != index)))
        stand_in = self._stand_ins.pop(index)
        if stand_in is not None and stand_in in self._running:
            self._running[stand_in].send(AcceptNoMore(index))

    def _find_stand_ins(self) -> None:
        able = [index for index, worker in self._running.items() if worker.ready and index not in self.out]
        for out, stand_in in self._stand_ins.items():
            if stand_in is None and able:
                chosen = able[out % len(able)]
                self._stand_ins[out] = chosen
                self._running[chosen].send(AcceptAlso(out), [self._listeners[out].fileno()])

    def _steer(self, steering: Steering) -> None:
        if steering == self._steering:
            return
        if len(self._listeners) > 1:
            try:
                steering.attach(self._listeners[0])
            except OSError as error:
                _log.error("clients can't be steered anew, so the old way stays: %s", error)
                self._page.slot(SUPERVISOR)[CELLS[STEERING_FAILED]] = 1
                self._on_problem(
                    f"the kernel refuses a new steering, so the old one stays: {error.strerror or error}"
                )
                return
            self._page.slot(SUPERVISOR)[CELLS[STEERING_FAILED]] = 0
            self._on_problem("")
        self._steering = steering
        for worker in self._running.values():
            worker.send(self._message())

    def _message(self) -> SteeringInForce:
        steering = self._steering
        return SteeringInForce(steering.workers, steering.ipv4, steering.ipv6, steering.out)
