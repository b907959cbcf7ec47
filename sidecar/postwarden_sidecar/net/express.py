"""The express lane: a client that the access list drops at accept gets its reply and its record here, at a third of a session's cost.

Such clients are most of what comes. A session for each, with its engine, its place in epoll and its counts, would be made and be gone
within the same moment. What is said and recorded is `engine.denial`'s; whoever it says nothing of is `session`'s, and so is a client that
meets a limit. Nothing is read from the client: at accept nothing is known to wait.
"""

from __future__ import annotations

import socket

from postwarden_sidecar.checks import prefix
from postwarden_sidecar.engine.denial import Denials, denials
from postwarden_sidecar.engine.record import Visit
from postwarden_sidecar.net.addresses import pack, socket_name
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.lane import Lane
from postwarden_sidecar.net.last_reply import say_last


class ExpressLane(Lane[Denials]):
    """See Lane."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, denials)

    def take(self, descriptor: int, address: str, port: int) -> bool:
        """Whether the client was dropped; then its descriptor is closed. address: normalised."""
        denied = self._decider
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
        self._observe_alike(denied.template, Visit(self._wall, address, port, local[0], local[1], place))
        return True
