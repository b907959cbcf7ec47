"""What all connections of a worker share, and what they ask of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.ipc.messages import UpstreamFault
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.metering import Meter
from postwarden_sidecar.net.route import Route
from postwarden_sidecar.net.timeouts import Timeouts


class Host(Protocol):
    """The worker, as the driver sees it. No call blocks."""

    def context(self) -> Context:
        """What a connection that begins now is decided by."""

    def route(self) -> Route:
        """Where a client that is handed over now goes."""

    def lookup_pass(self, key: str, answer: Callable[[Mapping[str, float]], None]) -> None:
        """Call answer once: at once or within 5 ms; {}: not known."""

    def store_pass(self, key: str, expiries: Mapping[str, float]) -> None:
        """Keep a pass."""

    def record(self, record: Record) -> None:
        """A connection has its verdict."""

    def learned(self, route: Route, ehlo: tuple[str, ...]) -> None:
        """What the MTA at the route's end offers now, of what our dialogue may offer: clients that come are offered that."""

    def upstream_fault(self, fault: UpstreamFault) -> None:
        """The hand-off is to be proved anew."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One a worker."""

    loop: Loop
    host: Host
    meter: Meter
    descriptors: Descriptors
    timeouts: Timeouts
