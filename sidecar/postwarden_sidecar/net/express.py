"""The express lane: a client that the access list drops at accept gets its reply and its record here, at a third of a session's cost.

Such clients are most of what comes. A session for each, with its engine, its place in epoll and its counts, would be made and be gone
within the same moment. What is said and recorded is `engine.denial`'s; whoever it says nothing of is `session`'s, and so is a client that
meets a limit. Nothing is read from the client: at accept nothing is known to wait.
"""

from __future__ import annotations

import socket

from postwarden_sidecar.checks import prefix
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.denial import Denials, denials
from postwarden_sidecar.net.addresses import pack, socket_name
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.last_reply import say_last


class ExpressLane:
    """One a worker. `begin_batch`, then `take` for each client of the batch."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._context: Context | None = None
        self._denials: Denials | None = None
        self._family = 0
        self._local: tuple[str, int] | None = None
        self._wall = 0.0

    def begin_batch(self, family: int, local: tuple[str, int] | None, wall: float) -> None:
        """Clients are about to be accepted, from a socket of this family. local: what they connect to; None if theirs are to be asked.
        wall: epoch seconds."""
        self._family, self._local, self._wall = family, local, wall
        self.renew()

    def renew(self) -> None:
        """Decide by what is in force now; what was before, and its access lists, are let go, whether clients come or not."""
        context = self._environment.host.context()
        if context is not self._context:
            self._context = context
            self._denials = denials(context)

    def take(self, descriptor: int, address: str, port: int) -> bool:
        """Whether the client was dropped; then its descriptor is closed. address: normalised."""
        denied = self._denials
        if denied is None:
            return False
        packed = pack(address)
        place = denied.find(address, packed)
        if place is None:
            return False
        environment, limits = self._environment, denied.rules.limits
        occupancy = environment.occupancy
        # Nobody is counted, in the usual case: then the key, which costs a microsecond with a prefix, is of no interest.
        key = prefix.key(address, packed, limits.prefix_ipv4, limits.prefix_ipv6) if occupancy.clients else ""
        if not occupancy.unmoved(limits, key):
            return False
        client = socket.SocketType(
            self._family, socket.SOCK_STREAM, 0, descriptor
        )  # socket.socket's price is twice this one's
        try:
            local = self._local or socket_name(client)
        except OSError:
            client.detach()
            return False
        try:
            say_last(client, denied.reply)
        except BlockingIOError:  # the kernel has no memory for it now
            client.detach()
            return False
        except OSError:
            pass  # it was reset: that changes nothing of the verdict
        client.close()
        record = denied.record(place, address, port, local[0], local[1], self._wall)
        environment.meter.count(record)
        environment.host.record(record)
        return True
