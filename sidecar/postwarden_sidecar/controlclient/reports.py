"""What the operator is told that can wait: states of DNSBL zones, whether clients' addresses are lost, and whether the kernel steers
clients to workers. On change, at most one telling in 30 s, jittered: what fails for all pods at once would else be told by a whole cluster
at one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from postwarden.screening.v1 import screening_pb2 as pb

PAUSE = 30.0  # seconds between two tellings (design)
JITTER = 5.0  # seconds, upper bound of what each telling waits longer
MAX_DETAIL = 300  # characters

_STATES = {
    "Healthy": pb.DNSBL_STATE_HEALTHY,
    "Blocked": pb.DNSBL_STATE_BLOCKED,
    "Unreachable": pb.DNSBL_STATE_UNREACHABLE,
    "ListsWorld": pb.DNSBL_STATE_LISTS_WORLD,
}

Send = Callable[[pb.SidecarMessage], Awaitable[None]]
_ADDRESS, _STEERING = "", " "  # keys of the reports on addresses and steering: no zone's names


class Reports:
    """`run` it as a task."""

    def __init__(self, send: Send, uniform: Callable[[float, float], float]) -> None:
        """send: to the operator, if there is a stream; never raises. uniform: the source of jitter."""
        self._send = send
        self._uniform = uniform
        self._known: dict[str, pb.SidecarMessage] = {}
        self._untold: dict[str, None] = {}  # keys: zones, _ADDRESS, _STEERING, in the order of their changes
        self._changed = asyncio.Event()

    def tell_zone(self, zone: str, state: str, detail: str) -> None:
        """zone: the template, without a key. state: dns.zone_health.ZoneState's value."""
        report = pb.DnsblReport(zone=zone, state=_STATES[state], detail=detail[:MAX_DETAIL])
        self._tell(zone, pb.SidecarMessage(dnsbl=report))

    def tell_address(self, address: str, detail: str) -> None:
        """Nearly all clients seem to come from there; "": they do not any more."""
        report = pb.LostAddressReport(address=address, detail=detail[:MAX_DETAIL])
        self._tell(_ADDRESS, pb.SidecarMessage(lost_address=report))

    def tell_steering(self, problem: str) -> None:
        """The kernel does not steer clients to workers as they are to be, and what that means; "": it does."""
        if problem or _STEERING in self._known:
            report = pb.SteeringReport(problem=problem[:MAX_DETAIL])
            self._tell(_STEERING, pb.SidecarMessage(steering=report))

    def _tell(self, key: str, report: pb.SidecarMessage) -> None:
        if self._known.get(key) == report:
            return
        self._known[key] = report
        self._untold[key] = None
        self._changed.set()

    def keep_only(self, zones: Collection[str]) -> None:
        """Others are asked no more."""
        for zone in [zone for zone in self._known if zone not in (*zones, _ADDRESS, _STEERING)]:
            del self._known[zone]
            self._untold.pop(zone, None)

    async def tell_all(self) -> None:
        """A stream is new, or its snapshot is applied: all that is known."""
        for report in tuple(self._known.values()):
            await self._send(report)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._uniform(0.0, JITTER))
            self._changed.clear()
            keys, self._untold = tuple(self._untold), {}
            for key in keys:
                if key in self._known:
                    await self._send(self._known[key])
            await asyncio.sleep(PAUSE)
