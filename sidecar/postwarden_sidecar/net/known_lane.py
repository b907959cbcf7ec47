"""Known clients: a client whose passes this worker has in memory goes to Postfix's smtpd in the moment of accept, at half of a session's
cost.

What is decided and recorded is `engine.known`'s, and the hand-off is `pass_client`'s, less what a session would need. Whoever is not let
in, meets a limit, or finds smtpd's queue full or smtpd away is `session`'s: it has been told nothing, and nothing was sent.

As there, nothing is written to the client once smtpd has it, and both descriptors stay open until smtpd closes the control socket. Its end
is all that is watched for: smtpd says nothing. Nobody waits for us to see it, so these ends have an epoll of their own, that the loop looks
at a few times in a while: a turn for each end would cost as much as what is done in it. Clients are descriptors here and no objects, for
nothing is ever read from them.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import NamedTuple

from postwarden_sidecar.checks import prefix
from postwarden_sidecar.engine.known import KnownClients, known_clients
from postwarden_sidecar.engine.record import Visit
from postwarden_sidecar.handoff.smtpd_pass import encode_attributes
from postwarden_sidecar.net.addresses import pack, socket_name
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.lane import Lane
from postwarden_sidecar.net.loop import fail
from postwarden_sidecar.net.smtpd_control import pass_descriptor
from postwarden_sidecar.rules.settings import Handoff

RELEASE_PACE = 0.005  # seconds between two turns that release clients. One that has left meanwhile sees its end so much later
_MAX_RELEASED = 256  # of one turn
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class _Passed(NamedTuple):
    """A client that smtpd has, or is about to take. key: what it is counted by. until: CLOCK_MONOTONIC seconds."""

    descriptor: int
    key: str
    until: float


class KnownLane(Lane[KnownClients]):
    """See Lane."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, known_clients)
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._passed: dict[int, _Passed] = {}  # by control socket, the oldest first
        self._epoll = select.epoll()
        self._watched = False

    @property
    def open_connections(self) -> int:
        """Clients whose descriptor is here still."""
        return len(self._passed)

    def take(self, descriptor: int, address: str, port: int) -> bool:
        """Whether smtpd has the client; then its descriptor is closed in time. address: normalised."""
        clients, environment, wall = self._decider, self._environment, self._wall
        if clients is None:
            return False
        known = environment.host.remembered(address)
        if not known:
            return False
        packed = pack(address)
        if not clients.lets_in(address, packed, known, wall):
            return False
        route = environment.host.route()
        if not route.usable or route.handoff is not Handoff.PASS or not environment.descriptors.for_handoff:
            return False
        limits = clients.rules.limits
        key = prefix.key(address, packed, limits.prefix_ipv4, limits.prefix_ipv6)
        if not environment.occupancy.unmoved(limits, key):
            return False
        local = self._local or self._name(descriptor)
        if local is None:
            return False
        host, own_port = local
        template = clients.template(known, route.handoff.value)
        try:
            control = socket.SocketType(socket.AF_UNIX, _KIND)
        except OSError:
            return False
        try:
            control.connect(route.addresses[0].address)
            attributes = encode_attributes(address, port, host, own_port)
            whole = pass_descriptor(control, descriptor, attributes)
        except OSError:
            whole = False
        if not whole:
            control.close()
            return False
        self._keep(control, descriptor, key)
        try:
            self._observe_alike(template, Visit(wall, address, port, host, own_port))
        except Exception:  # a defect of ours; smtpd has the client
            fail(self)
        return True

    def _name(self, descriptor: int) -> tuple[str, int] | None:
        """What the client has connected to; None: it is gone."""
        client = socket.SocketType(self._family, socket.SOCK_STREAM, 0, descriptor)
        try:
            return socket_name(client)
        except OSError:
            return None
        finally:
            client.detach()

    def _keep(self, control: socket.SocketType, descriptor: int, key: str) -> None:
        environment = self._environment
        until = environment.loop.now + environment.timeouts.pass_control
        # No memory, or too many are watched (epoll_ctl(2)): smtpd has the client all the same, and the deadline closes what is ours.
        with suppress(OSError):
            self._epoll.register(control.fileno(), select.EPOLLRDHUP)
        self._passed[control.detach()] = _Passed(descriptor, key, until)
        if self.deadline is None:
            self._watch(True)
            environment.loop.set_deadline(self, until)
        environment.descriptors.opened += 2
        environment.occupancy.pass_on(key)
        environment.meter.move("", "handoff")

    def handle_events(self, fd: int, events: int) -> None:
        """smtpd has closed control sockets: it has those clients. The next turn for others comes at the pace."""
        for ended, _ in self._epoll.poll(0, _MAX_RELEASED):
            self._release(ended)
        self._watch(False)
        loop = self._environment.loop
        loop.set_deadline(self, loop.now + RELEASE_PACE if self._passed else None)

    def handle_deadline(self) -> None:
        """The pace, or smtpd did not take the oldest in time; such a client sees FIN or smtpd, whichever has it."""
        loop = self._environment.loop
        while self._passed:
            fd, oldest = next(iter(self._passed.items()))
            if oldest.until > loop.now:
                self._watch(True)
                loop.set_deadline(self, oldest.until)
                return
            self._release(fd)

    def _watch(self, on: bool) -> None:
        """Let the loop see that control sockets have ended, or not before the pace."""
        if on is not self._watched:
            with suppress(OSError):  # as in `_keep`; the next client tries again
                self._environment.loop.watch(self._epoll.fileno(), self, select.EPOLLIN if on else 0)
                self._watched = on

    def fail(self) -> None:
        """A defect with one client; the others are smtpd's, and their descriptors go as before."""

    def close(self) -> None:
        """Close all descriptors."""
        for fd in list(self._passed):
            self._release(fd)
        if not self._epoll.closed:
            self._watch(False)
            self._environment.loop.set_deadline(self, None)
            self._epoll.close()

    def _release(self, fd: int) -> None:
        passed = self._passed.pop(fd, None)
        if passed is None:
            return
        environment = self._environment
        environment.loop.close_unshared(fd)
        environment.loop.close_unshared(passed.descriptor)  # shared, but never watched
        environment.descriptors.opened -= 2
        environment.occupancy.passed_on(passed.key)
        environment.meter.move("handoff", "")
