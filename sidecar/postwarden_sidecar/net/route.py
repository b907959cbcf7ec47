"""Where clients go: the upstream in force with its address looked up once, when it comes in force."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from postwarden_sidecar.ipc.messages import UpstreamInForce
from postwarden_sidecar.net.addresses import BadAddress, UnixTarget, parse_target, resolve
from postwarden_sidecar.rules.settings import Handoff


@dataclass(frozen=True, slots=True)
class Route:
    """usable False: nobody is handed over, detail says why. family and address are for connect(2)."""

    target: str
    handoff: Handoff
    usable: bool
    detail: str
    family: socket.AddressFamily
    address: tuple[str, int] | str


def make_route(upstream: UpstreamInForce) -> Route:
    """The route of an upstream. A name in its target is looked up now, which may block for a moment; what
    can't be used gives a route that says so."""
    family: socket.AddressFamily = socket.AF_UNIX
    address: tuple[str, int] | str = ""
    handoff = Handoff.PLAIN
    usable, detail = upstream.usable, upstream.detail
    if usable:
        try:
            handoff = Handoff(upstream.handoff)
            target = parse_target(upstream.target)
            if handoff is Handoff.PASS and not isinstance(target, UnixTarget):
                raise BadAddress(f"Pass needs the path of a unix socket, not {upstream.target!r}")
            family, address = resolve(target)
        except ValueError as error:
            usable, detail = False, str(error)
    return Route(upstream.target, handoff, usable, detail, family, address)
