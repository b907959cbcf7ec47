"""Block lists as a worker asks them: look-ups by its own sockets; a hit waits for the supervisor's probe of the zone, if none holds.

A probe that does not come in time makes the hit count for nothing: mail goes before catching spam.
"""

from __future__ import annotations

from collections.abc import Callable

from postwarden_sidecar.dns.outcome import Finding, Outcome
from postwarden_sidecar.dns.zone_health import BAD_FOR, Probe, ZoneState
from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.ipc.lookup_counts import OTHER, LookupCounts
from postwarden_sidecar.ipc.messages import Resolvers, ZoneProbed
from postwarden_sidecar.net.addresses import SocketAddress, TcpTarget, is_literal, parse_host_port, resolve
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dnsbl import DnsblClient, Panel, Waiting
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.rules.settings import Dnsbl, Rules

MAX_ZONES = 256  # whose probes and places are remembered: eight policies' worth, for open connections keep the rules they began with


class Blocklists:
    """One a worker. No call blocks."""

    def __init__(
        self,
        loop: Loop,
        descriptors: Descriptors,
        counts: LookupCounts,
        worker: int,
        ask_for_probe: Callable[[str], bool],
    ) -> None:
        """counts: where this worker counts. ask_for_probe: tell the supervisor that a zone needs one; False if nobody is there to tell."""
        self.loop = loop
        self.client = DnsblClient(loop, descriptors, self._count)
        self._counts = counts
        self._worker = worker
        self._places: dict[str, int] = {}  # where each zone is counted
        self._ask_for_probe = ask_for_probe
        self._told = Resolvers((), {})
        self._rules: Rules | None = None
        self._addresses: dict[tuple[str, ...], tuple[SocketAddress, ...]] = {}
        self._panel: tuple[Dnsbl, Panel] | None = None  # of the settings that were asked for last
        self._prepared: tuple[Panel, float] | None = None  # whose probes were asked for last, and when
        self._probes: dict[str, Probe] = {}
        self._wanted: dict[str, float] = {}  # zone -> when a probe was asked for that has not come
        self._parked: dict[str, dict[BlocklistInquiry, None]] = {}  # by zone; who came first is told first

    def query(self, address: str, settings: Dnsbl, answer: Callable[[DnsblAnswer], None]) -> BlocklistInquiry:
        """See Host.query_dnsbl."""
        panel = self._panel_for(settings)
        self._prepare(panel)
        inquiry = BlocklistInquiry(self, answer, self.loop.now + settings.timeout)
        inquiry.start(panel, address)
        return inquiry

    def _panel_for(self, settings: Dnsbl) -> Panel:
        if self._panel is None or self._panel[0] is not settings:
            zones = dict.fromkeys(site.zone for site in settings.sites)
            panel = self.client.panel(tuple(zones), self._resolvers(settings.resolvers), settings.timeout)
            self._panel = settings, panel
        return self._panel[1]

    def set_rules(self, rules: Rules | None) -> None:
        """New connections are decided by these."""
        self._rules = rules
        if rules is not None and rules.dnsbl.sites:
            self._find_places(rules.dnsbl)
        self._renew()

    def set_resolvers(self, told: Resolvers) -> None:
        """The supervisor has looked names up."""
        self._told = told
        self._renew()

    def _find_places(self, settings: Dnsbl) -> None:
        if len(self._places) >= MAX_ZONES:
            self._places.clear()
        named = self._counts.zones()
        # Former zones stay: open connections may still ask them.
        self._places |= {site.zone: named.get(site.template, named[OTHER]) for site in settings.sites}

    def _count(self, zone: str, outcome: Outcome, duration: float) -> None:
        self._counts.count(self._worker, self._places.get(zone, 0), outcome, duration)

    def _renew(self) -> None:
        self._addresses.clear()
        self._panel = None
        sites = self._rules is not None and self._rules.dnsbl.sites
        wanted = self._rules.dnsbl.resolvers if self._rules is not None else ()
        self.client.keep_only(self._resolvers(wanted) if sites else ())

    def _resolvers(self, wanted: tuple[str, ...]) -> tuple[SocketAddress, ...]:
        known = self._addresses.get(wanted)
        if known is None:
            texts: list[str] = []
            for text in wanted:
                texts += (text,) if is_literal(text) else self._told.named.get(text, ())
            found = [_address(text) for text in (texts if wanted else self._told.system)]
            known = self._addresses[wanted] = tuple(dict.fromkeys(found))
        return known

    # --- probes

    def receive_probe(self, message: ZoneProbed) -> None:
        """The supervisor's probe of a zone, asked for or not."""
        if len(self._probes) >= MAX_ZONES:
            self._probes.clear()
        probe = self._probes[message.zone] = Probe(ZoneState(message.state), self.loop.now)
        self._wanted.pop(message.zone, None)
        for inquiry in self._parked.pop(message.zone, {}):
            inquiry.settle(message.zone, probe.state)

    def state_of(self, zone: str) -> ZoneState | None:
        """By a probe that holds; None: one is asked for."""
        probe = self._probes.get(zone)
        if probe is not None and probe.holds(self.loop.now):
            return probe.state
        return None if self.want_probe(zone) else ZoneState.UNREACHABLE

    def note(self, zone: str, finding: Finding) -> None:
        """An answer that is no hit: ask for a probe where health may have changed, or is not known at all. Nobody waits for it."""
        probe = self._probes.get(zone)
        if probe is None or (finding.failed and not probe.holds(self.loop.now)):
            self.want_probe(zone)

    def _prepare(self, panel: Panel) -> None:
        """Ask for the probes that a listing would need, beside it: one asked for afterwards would cost a slow list its word."""
        if self._prepared == (panel, self.loop.now):
            return
        self._prepared = panel, self.loop.now
        for zone in panel.zones:
            probe = self._probes.get(zone)
            if probe is None or not probe.holds(self.loop.now):
                self.want_probe(zone)

    def want_probe(self, zone: str) -> bool:
        """Whether one may come."""
        asked = self._wanted.get(zone)
        if asked is not None and self.loop.now - asked < BAD_FOR:
            return True
        if len(self._wanted) >= MAX_ZONES:
            self._wanted.clear()
        self._wanted[zone] = self.loop.now
        return self._ask_for_probe(zone)

    def park(self, zone: str, inquiry: BlocklistInquiry) -> None:
        """It waits for the zone's probe."""
        self._parked.setdefault(zone, {})[inquiry] = None

    def unpark(self, zone: str, inquiry: BlocklistInquiry) -> None:
        """It waits no longer."""
        waiting = self._parked.get(zone)
        if waiting is not None:
            waiting.pop(inquiry, None)
            if not waiting:
                del self._parked[zone]


class BlocklistInquiry:
    """One connection's question to all lists."""

    __slots__ = ("_answer", "_give_up", "_hits", "_lists", "_waiting", "deadline", "queued_at")

    def __init__(self, lists: Blocklists, answer: Callable[[DnsblAnswer], None], give_up: float) -> None:
        """give_up: CLOCK_MONOTONIC seconds."""
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._lists = lists
        self._answer: Callable[[DnsblAnswer], None] | None = answer
        self._give_up = give_up
        self._waiting: Waiting | None = None
        self._hits: dict[str, DnsblAnswer] = {}  # that wait for a probe

    def start(self, panel: Panel, address: str) -> None:
        """Ask."""
        self._waiting = panel.query(address, self._receive)
        if self._answer is None:  # cancelled by what the first answers led to
            self._waiting.cancel()

    def cancel(self) -> None:
        """See Inquiry."""
        self._answer = None
        if self._waiting is not None:
            self._waiting.cancel()
        if self._hits:
            for zone in self._hits:
                self._lists.unpark(zone, self)
            self._hits.clear()
            self._lists.loop.set_deadline(self, None)

    def _receive(self, zone: str, finding: Finding, start: float, end: float) -> None:
        outcome = finding.outcome
        answer = DnsblAnswer(zone, finding.addresses, finding.ttl, finding.failed, str(outcome), start, end)
        if outcome is not Outcome.LISTED:
            self._lists.note(zone, finding)
            self._tell(answer)
            return
        state = self._lists.state_of(zone)
        if state is not None:
            self._tell(_judged(answer, state))
            return
        self._hits[zone] = answer
        self._lists.park(zone, self)
        self._lists.loop.set_deadline(self, self._give_up)

    def settle(self, zone: str, state: ZoneState) -> None:
        """The probe has come. It was taken out of those parked."""
        answer = self._hits.pop(zone, None)
        if not self._hits:
            self._lists.loop.set_deadline(self, None)
        if answer is not None:
            self._tell(_judged(answer, state))

    def handle_deadline(self) -> None:
        """No probe came in time."""
        hits, self._hits = self._hits, {}
        for zone, answer in hits.items():
            self._lists.unpark(zone, self)
            self._tell(_failed(answer, Outcome.UNPROBED))

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def fail(self) -> None:
        """A defect of ours: the engine ends its wait by itself."""
        self.cancel()

    def _tell(self, answer: DnsblAnswer) -> None:
        if self._answer is not None:
            self._answer(answer)


def _address(text: str) -> SocketAddress:
    host, port = parse_host_port(text)
    return resolve(TcpTarget(host, port))[0]  # of an address: nothing is looked up


def _judged(answer: DnsblAnswer, state: ZoneState) -> DnsblAnswer:
    if state is ZoneState.HEALTHY:
        return answer
    return _failed(answer, Outcome.LISTS_WORLD if state is ZoneState.LISTS_WORLD else Outcome.UNPROBED)


def _failed(answer: DnsblAnswer, outcome: Outcome) -> DnsblAnswer:
    return DnsblAnswer(answer.zone, (), 0.0, True, outcome.value, answer.start, answer.end)
