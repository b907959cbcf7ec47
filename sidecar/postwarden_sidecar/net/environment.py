"""What all connections of a worker share, and what they ask of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record, Visit
from postwarden_sidecar.ipc.messages import UpstreamFault
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.metering import Meter
from postwarden_sidecar.net.neighbours import Neighbours
from postwarden_sidecar.net.occupancy import Occupancy
from postwarden_sidecar.net.route import Route
from postwarden_sidecar.net.timeouts import Timeouts
from postwarden_sidecar.rules.settings import Rules


class Inquiry(Protocol):
    """A question to the block lists that is under way."""

    def cancel(self) -> None:
        """No more answers are wanted. Harmless when all have come."""


class Host(Protocol):
    """The worker, as the driver sees it. No call blocks."""

    def context(self) -> Context:
        """What a connection that begins now is decided by."""

    def route(self) -> Route:
        """Where a client that is handed over now goes."""

    def lookup_pass(self, key: str, answer: Callable[[Mapping[str, float]], None]) -> None:
        """Call answer once: at once or within 5 ms; {}: not known."""

    def prepare_pass(self, key: str) -> None:
        """`lookup_pass` is likely to come within some milliseconds: ask now."""

    def remembered(self, key: str) -> Mapping[str, float]:
        """What is known of the passes of key at once, as `lookup_pass` would answer; {}: nothing, or it is to be asked."""

    def store_pass(self, key: str, expiries: Mapping[str, float]) -> None:
        """Keep a pass."""

    def query_dnsbl(self, address: str, rules: Rules, answer: Callable[[DnsblAnswer], None]) -> Inquiry:
        """Ask each zone of rules.dnsbl.sites about address, and call answer once a zone, within rules.dnsbl.timeout; it may be
        called before this returns."""

    def record(self, record: Record) -> None:
        """A connection has its verdict."""

    def record_alike(self, template: Record, visit: Visit) -> None:
        """A connection has its verdict, and shares its record (`engine.alike`)."""

    def learned(self, route: Route, ehlo: tuple[str, ...]) -> None:
        """What the MTA at the route's end offers now, of what our dialogue may offer: clients that come are offered that."""

    def upstream_fault(self, fault: UpstreamFault) -> None:
        """The hand-off is to be proved anew."""

    def accept_paused(self, why: str) -> None:
        """Clients wait for accept; why in one sentence. At most once a second."""

    def stress_changed(self, on: bool, connections: int) -> None:
        """Stress mode began or ended, with so many connections in our hands."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One a worker."""

    loop: Loop
    host: Host
    meter: Meter
    occupancy: Occupancy
    neighbours: Neighbours
    descriptors: Descriptors
    timeouts: Timeouts
