"""The driver of a worker: takes clients from its listening socket, keeps their sessions and relays, and
drains.

Clients are accepted in batches, so that those who wait are taken before the loop sleeps, and others are
served between two batches.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from postwarden_sidecar.engine.proxy_header import Announced
from postwarden_sidecar.ipc.messages import Moved
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.net.accept_pace import AcceptPace
from postwarden_sidecar.net.accept_pause import CLIENT_GONE, AcceptPause
from postwarden_sidecar.net.addresses import normalise, socket_name
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.early_lane import EarlyLane, Newcomer
from postwarden_sidecar.net.environment import Environment, Host
from postwarden_sidecar.net.express import ExpressLane
from postwarden_sidecar.net.known_lane import KnownLane
from postwarden_sidecar.net.lane import Lane
from postwarden_sidecar.net.listener import Listener, described
from postwarden_sidecar.net.loop import Loop, fail
from postwarden_sidecar.net.metering import Meter
from postwarden_sidecar.net.neighbours import Neighbours
from postwarden_sidecar.net.occupancy import Occupancy
from postwarden_sidecar.net.session import Session
from postwarden_sidecar.net.timeouts import Timeouts
from postwarden_sidecar.net.transfer import Transfer

ACCEPT_BATCH = 64  # clients taken in one turn; 64 drops take about 2 ms
SWEEP_PACE = (
    0.1  # seconds between two looks at which relays are over: each turn's would cost by how many there are
)


class Driver:
    """listener: listens already, non-blocking; it stays its owner's. cells: our slot of the page. index: our number among the workers.
    limit: file descriptors that the process may have open."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        host: Host,
        page: Page,
        cells: memoryview,
        *,
        index: int = 0,
        limit: int,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._loop = loop
        self._listeners = {index: described(listener)}  # ours first, then those of workers that are out
        self._index = index
        self._descriptors = Descriptors(limit)
        self._meter = Meter(cells)
        self._occupancy = Occupancy(page, cells, host.stress_changed)
        self.neighbours = Neighbours(loop, index, self._adopt, self._has_room)
        self._environment = Environment(
            loop,
            host,
            self._meter,
            self._occupancy,
            self.neighbours,
            self._descriptors,
            timeouts or Timeouts(),
        )
        self._express = ExpressLane(self._environment)
        self._known = KnownLane(self._environment)
        self._early = EarlyLane(self._environment, self._begin_late)
        self._lanes: tuple[Lane[Any], ...] = (self._express, self._known, self._early)
        self._session_ended = self._ended  # one bound method for all
        self._sessions: list[Session] = []  # each knows its place: a set takes ten times as much for each
        self._transfers: set[Transfer] = set()
        self._sweep_at = 0.0
        self._accepting = False
        pause = self._environment.timeouts.accept_pause
        self._pause = AcceptPause(loop, pause, self._watch_listeners, host.accept_paused)
        self._pace = AcceptPace(loop, self._accept_all, self._watch_listeners)
        self._drained: Callable[[], None] | None = None
        self._descriptors.look()  # the lanes have some of their own
        loop.each_turn.append(self._end_turn)

    @property
    def open_connections(self) -> int:
        """Clients in screening, dialogue or hand-off, and those handed over whose descriptor is here still."""
        waiting = self._known.open_connections + self._early.open_connections
        return len(self._sessions) + len(self._transfers) + waiting

    @property
    def descriptors(self) -> Descriptors:
        """For who else opens some in this process."""
        return self._descriptors

    @property
    def meter(self) -> Meter:
        """For who else counts in this process."""
        return self._meter

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = True
        self._watch_listeners()

    def accept_also(self, index: int, listener: socket.socket) -> None:
        """Take the clients of a worker that is out, too. The socket is taken over."""
        self.accept_no_more(index)
        listener.setblocking(False)
        self._listeners[index] = described(listener)
        self._watch_listeners()

    def accept_no_more(self, index: int) -> None:
        """That worker is back."""
        if index != self._index and (listener := self._listeners.pop(index, None)) is not None:
            self._loop.close(listener.owned)

    def drain(self, timeout: float, drained: Callable[[], None]) -> None:
        """Turn away new clients and those in our dialogue with 421; let relays go on for `timeout` seconds;
        then call drained, once. Called again it sets a new end."""
        first, self._drained = self._drained is None, drained
        self._pace.end()
        self._loop.set_deadline(self, self._loop.now + timeout)
        if first:
            self._early.shut_down()
            for session in list(self._sessions):
                try:
                    session.shut_down()
                except Exception:
                    fail(session)
        self._loop.wake()

    # --- accepting

    def handle_events(self, fd: int, events: int) -> None:
        """Clients wait."""
        for listener in list(self._listeners.values()):
            if listener.owned.fileno() == fd:
                self._accept(listener)

    def _watch_listeners(self) -> None:
        waited_for = self._accepting and not self._pause.active and not self._pace.active
        mask = select.EPOLLIN if waited_for else 0
        for listener in self._listeners.values():
            self._loop.watch(listener.owned.fileno(), self, mask)
        self.neighbours.watch(not self._pause.active)

    def _accept(self, listener: Listener) -> int:
        """Take a batch; how many."""
        taken = self._accept_batch(listener)
        if self._drained is None and not self._pause.active:
            self._pace.took(taken)
        return taken

    def _accept_batch(self, listener: Listener) -> int:
        owned, family, kind, local = listener
        wall = time.time()
        for lane in self._lanes:
            lane.begin_batch(family, local, wall)
        self._occupancy.look_around()
        turned_away = self._drained is not None
        for count in range(ACCEPT_BATCH):
            if not self._has_room():
                return count
            try:
                # accept() would make an object of the socket, at three times the price, before it is known whether one is needed.
                descriptor, name = owned._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
            except (BlockingIOError, InterruptedError):
                return count
            except OSError as error:
                if error.errno in CLIENT_GONE:
                    continue
                self._wait(f"accept: {error.strerror}")
                return count
            address, port = normalise(name[0]), name[1]
            try:
                if self._express.take(descriptor, address, port):
                    continue
                if not turned_away and (
                    self._known.take(descriptor, address, port) or self._early.take(descriptor, address, port)
                ):
                    continue
                client = socket.socket(family, kind, 0, descriptor)
            except Exception:  # as in `_begin`
                os.close(descriptor)
                raise
            self._take(client, (address, port), local, wall)
        return ACCEPT_BATCH

    def _begin_late(self, newcomer: Newcomer, known: Mapping[str, float] | None) -> None:
        """The lane of early talkers gives a client back: it gets its session now."""
        client = socket.socket(newcomer.family, socket.SOCK_STREAM, 0, newcomer.descriptor)
        self._take(
            client, (newcomer.address, newcomer.port), newcomer.local, newcomer.wall, newcomer.began, known
        )

    def _take(
        self,
        client: socket.socket,
        peer: tuple[str, int],
        local: tuple[str, int] | None,
        wall: float,
        began: float | None = None,
        known: Mapping[str, float] | None = None,
    ) -> None:
        """A client from our own listening sockets. local: None if its socket is to be asked."""
        self._descriptors.opened += 1
        try:
            client.setblocking(False)
            name = local or socket_name(client)
        except OSError:
            self._descriptors.opened -= 1
            client.close()
            return
        self._begin(client, peer, name, wall, None, began, known)

    def _adopt(self, client: socket.socket, moved: Moved) -> None:
        """Another worker has read this client's PROXY header, and the client is ours."""
        self._descriptors.opened += 1
        try:
            client.setblocking(False)
            whole = len(client.recv(moved.size)) == moved.size
        except OSError:
            whole = False
        if whole:
            self._begin(client, moved.peer, moved.local, time.time(), moved.announced)
        else:  # it was reset meanwhile
            self._descriptors.opened -= 1
            client.close()

    def _begin(
        self,
        client: socket.socket,
        peer: tuple[str, int],
        local: tuple[str, int],
        wall: float,
        announced: Announced | None = None,
        began: float | None = None,
        known: Mapping[str, float] | None = None,
    ) -> None:
        """began: None: now. known: as in Session.begin."""
        now = self._loop.now if began is None else began
        try:
            session = Session(
                self._environment, client, peer, local, wall, now, self._session_ended, announced
            )
        except Exception:  # a defect of ours; the client tries again
            self._descriptors.opened -= 1
            client.close()
            raise
        session.place = len(self._sessions)
        self._sessions.append(session)
        try:
            session.begin(draining=self._drained is not None, known=known)
        except Exception:
            fail(session)

    def _has_room(self) -> bool:
        """Whether a client can be taken; else there is a pause."""
        if self._descriptors.for_clients:
            return True
        self._wait(self._descriptors.shortage)
        return False

    def _wait(self, why: str) -> None:
        """Clients wait in the listening socket's queue until there is room."""
        self._pace.end()
        self._pause.begin(why)
        self._watch_listeners()

    def _ended(self, session: Session, transfer: Transfer | None) -> None:
        if session.place >= 0:
            last = self._sessions.pop()
            if last is not session:  # it takes the place that becomes free
                self._sessions[session.place], last.place = last, session.place
            session.place = -1
        if transfer is not None:
            self._transfers.add(transfer)

    # --- turns and end

    def _end_turn(self) -> None:
        now = self._loop.now
        self._meter.beat(now)
        for lane in self._lanes:
            lane.settle()
            lane.renew()
        rules = self._environment.host.context().rules
        self._occupancy.settle(None if rules is None else rules.limits)
        if self._transfers and (now >= self._sweep_at or self._drained is not None):
            self._sweep_at = now + SWEEP_PACE
            self._transfers = {transfer for transfer in self._transfers if not transfer.closed}
        if (
            self._drained is not None
            and not self.open_connections
            and not self._pause.active
            and not self._accept_all()
            and not self._pause.active
        ):
            self._finish()

    def _accept_all(self) -> int:
        return sum(self._accept(listener) for listener in self._listeners.values())

    def handle_deadline(self) -> None:
        """The drain is over."""
        self._finish()

    def fail(self) -> None:
        """A defect in accepting; the sessions go on."""

    def _finish(self) -> None:
        drained, self._drained = self._drained, None
        self.close()
        if drained is not None:
            drained()

    def close(self) -> None:
        """End everything at once. Our own listening socket stays open."""
        self._loop.set_deadline(self, None)
        self._pause.end()
        self._pace.end()
        self._accepting = False
        self._watch_listeners()
        for index in list(self._listeners):
            self.accept_no_more(index)
        self.neighbours.close()
        for session in list(self._sessions):
            session.close()
        for transfer in self._transfers:
            transfer.close()
        self._transfers.clear()
        for lane in self._lanes:
            lane.settle()
        self._known.close()
        self._early.close()
