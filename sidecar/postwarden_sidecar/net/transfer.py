"""Which way a client goes to the MTA."""

from __future__ import annotations

import socket
from typing import Protocol

from postwarden_sidecar.engine.actions import Endpoints, HandoffOutcome
from postwarden_sidecar.handoff.proxy_header import encode_v1, encode_v2
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.handoff_owner import HandoffOwner
from postwarden_sidecar.net.occupancy import Presence
from postwarden_sidecar.net.pass_client import PassClient
from postwarden_sidecar.net.relay import Relay
from postwarden_sidecar.net.route import Route
from postwarden_sidecar.rules.settings import Handoff


class Transfer(Protocol):
    """A hand-off under way, and after it the relay."""

    @property
    def closed(self) -> bool:
        """The client's socket was taken over and is closed."""

    def start(self) -> None:
        """Begin; the owner may be called before this returns."""

    def close(self) -> None:
        """End at once; the client's socket is closed only if it was taken over."""


def choose_transfer(
    environment: Environment,
    client: socket.socket,
    endpoints: Endpoints,
    route: Route,
    owner: HandoffOwner,
    presence: Presence,
) -> Transfer | tuple[HandoffOutcome, str]:
    """The transfer, not yet started, or why none is tried. presence: told when the MTA has answered the client, or taken it."""
    if not route.usable:
        return HandoffOutcome.NOT_PROVED, route.detail
    if not environment.descriptors.for_handoff:
        return HandoffOutcome.NO_RESOURCES, "too few file descriptors are free"
    if route.handoff is Handoff.PASS:
        return PassClient(environment, client, endpoints, route.addresses, owner, presence)
    header = proxy_header(route.handoff, endpoints)
    return Relay(environment, client, header, route.addresses, owner, presence)


def proxy_header(handoff: Handoff, endpoints: Endpoints) -> bytes:
    """What goes to the MTA before anything else."""
    addresses = (
        endpoints.client_address,
        endpoints.client_port,
        endpoints.server_address,
        endpoints.server_port,
    )
    match handoff:
        case Handoff.PROXY_V1:
            return encode_v1(*addresses)
        case Handoff.PROXY_V2:
            return encode_v2(*addresses)
        case Handoff.PLAIN | Handoff.PASS:
            return b""
