"""The lane of early talkers: a client that talks before the greeting, and is dropped for it, gets its reply and its record here, at half of
a session's cost.

Who comes has its passes looked up, as in a session; who has none, and has spoken by then, is dropped. Everybody else gets a session, that
begins with what is known by then. What is said and recorded is `engine.early_drop`'s.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping

from postwarden_sidecar.checks import prefix
from postwarden_sidecar.engine.early_drop import EarlyDrops, early_drops
from postwarden_sidecar.net.addresses import pack, socket_name
from postwarden_sidecar.net.client_socket import MAX_INPUT
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.fault_record import fault_record
from postwarden_sidecar.net.lane import Lane
from postwarden_sidecar.net.last_reply import say_last
from postwarden_sidecar.net.lingering import discard_input
from postwarden_sidecar.net.occupancy import Presence


class Newcomer:
    """A client whose passes are looked up. It is called with what is known of them. local: what it came to; None if its socket is to be
    asked. wall, began: the moment of its arrival, epoch and CLOCK_MONOTONIC seconds."""

    __slots__ = (
        "_lane", "address", "began", "descriptor", "drops", "family", "local", "port", "presence", "wall",
    )  # fmt: skip

    def __init__(
        self,
        lane: EarlyLane,
        drops: EarlyDrops,
        descriptor: int,
        family: int,
        address: str,
        port: int,
        local: tuple[str, int] | None,
        wall: float,
        began: float,
        presence: Presence,
    ) -> None:
        self._lane = lane
        self.drops = drops
        self.descriptor = descriptor
        self.family = family
        self.address = address
        self.port = port
        self.local = local
        self.wall = wall
        self.began = began
        self.presence = presence

    def __call__(self, expiries: Mapping[str, float]) -> None:
        """The answer; it may come late."""
        self._lane.answered(self, expiries)


# Gets a client that is to have a session, and what is known of its passes; None: they were not looked up to the end.
Begin = Callable[[Newcomer, Mapping[str, float] | None], None]


class EarlyLane(Lane[EarlyDrops]):
    """begin: who gives a client a session; the descriptor is counted no more then, nor the client."""

    def __init__(self, environment: Environment, begin: Begin) -> None:
        super().__init__(environment, early_drops)
        self._begin = begin
        self._asking: set[Newcomer] = set()

    @property
    def open_connections(self) -> int:
        """Clients whose passes are being looked up."""
        return len(self._asking)

    def take(self, descriptor: int, address: str, port: int) -> bool:
        """Whether the client, and its descriptor, is the lane's for now. address: normalised."""
        drops = self._decider
        if drops is None:
            return False
        packed = pack(address)
        if not drops.may_drop(address, packed):
            return False
        environment, limits = self._environment, drops.rules.limits
        presence = environment.occupancy.arrive(limits)
        if drops.limited(presence.load(prefix.key(address, packed, limits.prefix_ipv4, limits.prefix_ipv6))):
            presence.end()
            return False
        newcomer = Newcomer(
            self,
            drops,
            descriptor,
            self._family,
            address,
            port,
            self._local,
            self._wall,
            environment.loop.now,
            presence,
        )
        self._asking.add(newcomer)
        environment.descriptors.opened += 1
        environment.meter.move("", "screening")
        try:
            environment.host.lookup_pass(address, newcomer)
        except Exception:
            self._fail(newcomer)
        return True

    def answered(self, newcomer: Newcomer, expiries: Mapping[str, float]) -> None:
        """What is known of its passes."""
        if newcomer not in self._asking:
            return  # drained meanwhile
        try:
            if expiries or not self._drop(newcomer):
                self._give(newcomer, expiries)
        except Exception:
            self._fail(newcomer)

    def _drop(self, newcomer: Newcomer) -> bool:
        """Whether the client had spoken; then it is gone."""
        client = socket.SocketType(newcomer.family, socket.SOCK_STREAM, 0, newcomer.descriptor)
        try:
            # Read and not peeked at, for nobody else is to see it: whatever it is, the client is dropped.
            said = client.recv(MAX_INPUT, socket.MSG_DONTWAIT)
            local = newcomer.local or socket_name(client)
        except OSError:  # nothing is there, or the client is gone
            said = b""
        if not said:
            client.detach()
            return False
        environment, drops = self._environment, newcomer.drops
        self._leave(newcomer)
        _say(client, drops.reply)
        client.close()
        after = environment.loop.now - newcomer.began
        visit = drops.visit(said, newcomer.address, newcomer.port, local, newcomer.wall, after)
        self._observe_alike(drops.template, visit)
        return True

    def _give(self, newcomer: Newcomer, known: Mapping[str, float] | None) -> None:
        self._leave(newcomer)
        self._begin(newcomer, known)

    def _leave(self, newcomer: Newcomer) -> None:
        """It is no longer the lane's."""
        self._asking.remove(newcomer)
        newcomer.presence.end()
        self._environment.descriptors.opened -= 1
        self._environment.meter.move("screening", "")

    def _fail(self, newcomer: Newcomer) -> None:
        """A defect of ours: the connection ends, with a verdict; the sender tries again."""
        traceback.print_exc(file=sys.stderr)
        if newcomer not in self._asking:
            return  # it has its verdict, or a session
        self._leave(newcomer)
        os.close(newcomer.descriptor)
        peer = newcomer.address, newcomer.port
        lasted = self._environment.loop.now - newcomer.began
        record = fault_record(peer, newcomer.local or ("", 0), newcomer.wall, lasted)
        self._observe(record)

    def shut_down(self) -> None:
        """The worker drains: all get a session, that turns them away."""
        for newcomer in list(self._asking):
            try:
                self._give(newcomer, None)
            except Exception:
                self._fail(newcomer)

    def close(self) -> None:
        """End at once, without a word."""
        for newcomer in list(self._asking):
            self._leave(newcomer)
            os.close(newcomer.descriptor)


def _say(client: socket.SocketType, reply: bytes) -> None:
    """And nothing more; what has come meanwhile is discarded."""
    try:
        say_last(client, reply)
        discard_input(client)
    except OSError:  # it was reset: that changes nothing of the verdict
        return
