"""What the operator is told of DNSBL zones: their states on change, at most one telling in 30 s, jittered.

A list that fails fails for all pods at once; without the pause and the jitter a cluster would tell its operator at one moment.
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

Send = Callable[[pb.DnsblReport], Awaitable[None]]


class DnsblReports:
    """`run` it as a task."""

    def __init__(self, send: Send, uniform: Callable[[float, float], float]) -> None:
        """send: to the operator, if there is a stream; never raises. uniform: the source of jitter."""
        self._send = send
        self._uniform = uniform
        self._known: dict[str, pb.DnsblReport] = {}
        self._untold: dict[str, None] = {}  # zones, in the order of their changes
        self._changed = asyncio.Event()

    def tell(self, zone: str, state: str, detail: str) -> None:
        """zone: the template, without a key. state: dns.zone_health.ZoneState's value."""
        report = pb.DnsblReport(zone=zone, state=_STATES[state], detail=detail[:MAX_DETAIL])
        if self._known.get(zone) == report:
            return
        self._known[zone] = report
        self._untold[zone] = None
        self._changed.set()

    def keep_only(self, zones: Collection[str]) -> None:
        """Others are asked no more."""
        for zone in [zone for zone in self._known if zone not in zones]:
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
            zones, self._untold = tuple(self._untold), {}
            for zone in zones:
                if zone in self._known:
                    await self._send(self._known[zone])
            await asyncio.sleep(PAUSE)
