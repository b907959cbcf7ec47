"""Where clients go: the upstream in force with its address looked up once, when it comes in force."""

from __future__ import annotations

from dataclasses import dataclass

from postwarden_sidecar.ipc.messages import UpstreamInForce
from postwarden_sidecar.net.addresses import BadAddress, SocketAddress, UnixTarget, parse_target, resolve
from postwarden_sidecar.rules.settings import Handoff


@dataclass(frozen=True, slots=True)
class Route:
    """usable False: nobody is handed over, detail says why. addresses: tried in order, as the proof does."""

    target: str
    handoff: Handoff
    usable: bool
    detail: str
    addresses: tuple[SocketAddress, ...]


def make_route(upstream: UpstreamInForce) -> Route:
    """The route of an upstream. A name in its target is looked up now, which may block for a moment; what can't be used gives a
    route that says so."""
    if not upstream.usable:
        return Route(upstream.target, Handoff.PLAIN, False, upstream.detail, ())
    try:
        handoff = Handoff(upstream.handoff)
        target = parse_target(upstream.target)
        if handoff is Handoff.PASS and not isinstance(target, UnixTarget):
            raise BadAddress(f"Pass needs the path of a unix socket, not {upstream.target!r}")
        return Route(upstream.target, handoff, True, "", resolve(target))
    except ValueError as error:
        return Route(upstream.target, Handoff.PLAIN, False, str(error), ())
