"""Look-ups in block lists: one question a zone, shared by all who ask for the same address at the same time.

An answer is kept as long as one of those who got it is still in its wait, and no longer: a client that passes is remembered by its pass,
and the resolver has a cache. A look-up that nobody waits for any more is dropped.

All that is the same for every address (names of the zones, resolvers, time limit) is in a `Panel`, made once a policy; an address costs
one `AddressLookup` for all zones, and one deadline is armed for all of them together. Where the first query is of no avail, a
`ZoneRetry` goes on for that zone. (An object, a deadline and a look-up a zone cost three times as much; measured.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postwarden_sidecar.dns.attempts import ATTEMPT
from postwarden_sidecar.dns.message import MAX_QUESTION, Reply, question, reversed_labels, zone_labels
from postwarden_sidecar.dns.outcome import Finding, Outcome, judge
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dns_udp import Random16, SentQuery, UdpResolver, UdpSocket
from postwarden_sidecar.net.dnsbl_retry import ZoneRetry
from postwarden_sidecar.net.loop import Loop

Answer = Callable[
    [str, Finding, float, float], None
]  # zone, finding, start and end in CLOCK_MONOTONIC seconds
Finished = Callable[[str, Outcome, float], None]  # for metrics: zone, outcome, seconds

MAX_PANELS = (
    8  # that are kept without a look-up; a policy has one, and few policies are in force within a wait
)


class DnsblClient:
    """One a worker. No call blocks."""

    def __init__(self, loop: Loop, descriptors: Descriptors, finished: Finished) -> None:
        """finished: called once a look-up in a zone, whoever shared it; not for one that nobody waits for any more, unless it has outlasted
        an attempt."""
        self.loop = loop
        self.descriptors = descriptors
        self.finished = finished
        self._random = Random16()
        self._resolvers: dict[SocketAddress, UdpResolver] = {}
        self._panels: dict[tuple[tuple[str, ...], tuple[SocketAddress, ...], float], Panel] = {}

    @property
    def open_lookups(self) -> int:
        """Zones that are being asked, over all addresses."""
        return sum(lookup.unanswered for panel in self._panels.values() for lookup in panel.lookups.values())

    def panel(self, zones: Sequence[str], resolvers: Sequence[SocketAddress], timeout: float) -> Panel:
        """The one for these, made when it is first asked for."""
        key = tuple(zones), tuple(resolvers), timeout
        found = self._panels.get(key)
        if found is None:
            if len(self._panels) >= MAX_PANELS:
                self._panels = {known: panel for known, panel in self._panels.items() if panel.lookups}
            found = self._panels[key] = Panel(self, *key)
        return found

    def resolver(self, address: SocketAddress) -> UdpResolver:
        """Its sockets."""
        found = self._resolvers.get(address)
        if found is None:
            found = self._resolvers[address] = UdpResolver(self.loop, self.descriptors, address, self._random)
        return found

    def keep_only(self, addresses: Sequence[SocketAddress]) -> None:
        """Other resolvers than these are not asked any more, but for connections that began before."""
        for address in [known for known in self._resolvers if known not in addresses]:
            self._resolvers.pop(address).retire()

    def close(self) -> None:
        """End all without an answer."""
        for panel in self._panels.values():
            panel.close()
        self.keep_only(())


class Panel:
    """Zones that are asked together. resolvers: in the order of preference. timeout: seconds. A zone that no name can be made of has no
    tail."""

    def __init__(
        self,
        client: DnsblClient,
        zones: tuple[str, ...],
        resolvers: tuple[SocketAddress, ...],
        timeout: float,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.client = client
        self.loop = client.loop
        self.zones = zones
        self.resolvers = resolvers
        self.timeout = timeout
        self.patience = min(ATTEMPT, timeout)  # seconds until a zone's first query counts as lost
        self.tails = tuple(map(_tail, zones))
        self.lookups: dict[str, AddressLookup] = {}  # by address; while somebody waits for it
        self._replaced: set[AddressLookup] = set()  # that go on, but nobody joins
        self._first_attempts: dict[AddressLookup, None] = {}  # those under way, by age

    def query(self, address: str, answer: Answer) -> Waiting:
        """Call answer once a zone, within timeout seconds; it may be called before this returns. Who joins a look-up that is under way
        shares its time limit. One of its zones has failed: it is none to join, and all zones are asked anew."""
        lookup = self.lookups.get(address)
        if lookup is not None and not lookup.failed:
            waiting = Waiting(answer, lookup)
            lookup.join(waiting)
            return waiting
        if lookup is not None:
            self._replaced.add(lookup)
        lookup = self.lookups[address] = AddressLookup(self, address)
        waiting = Waiting(answer, lookup)
        lookup.join(waiting)
        lookup.start()
        return waiting

    def remove(self, lookup: AddressLookup) -> None:
        """Nobody waits for it."""
        if self.lookups.get(lookup.address) is lookup:
            del self.lookups[lookup.address]
        else:
            self._replaced.discard(lookup)

    def watch(self, lookup: AddressLookup) -> None:
        """Its first queries are on their way."""
        self._first_attempts[lookup] = None
        if self.deadline is None:
            self.loop.set_deadline(self, lookup.start_time + self.patience)

    def unwatch(self, lookup: AddressLookup) -> None:
        """They are answered, or nobody waits for the answers."""
        self._first_attempts.pop(lookup, None)

    def handle_deadline(self) -> None:
        """Look-ups whose first queries are not answered yet: go on, or end."""
        late: list[AddressLookup] = []
        for lookup in self._first_attempts:  # the oldest come first
            if lookup.start_time + self.patience > self.loop.now:
                self.loop.set_deadline(self, lookup.start_time + self.patience)
                break
            late.append(lookup)
        for lookup in late:
            if lookup in self._first_attempts:  # what another one's answer led to has not ended it
                del self._first_attempts[lookup]
                lookup.first_attempt_over()

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def fail(self) -> None:
        """A defect of ours in one look-up: the others go on."""
        if self._first_attempts:
            self.loop.set_deadline(self, self.loop.now)

    def close(self) -> None:
        """End all without an answer."""
        for lookup in (*self.lookups.values(), *self._replaced):
            lookup.abandon()
        self.loop.set_deadline(self, None)


class Waiting:
    """Who waits for one address's answers. It is to be cancelled in the end, whether they came or not."""

    __slots__ = ("_answer", "_lookup")

    def __init__(self, answer: Answer, lookup: AddressLookup) -> None:
        self._answer: Answer | None = answer
        self._lookup = lookup

    def cancel(self) -> None:
        """No answer is wanted any more."""
        if self._answer is not None:
            self._answer = None
            self._lookup.leave(self)

    def receive(self, zone: str, finding: Finding, start: float, end: float) -> None:
        """A zone's answer."""
        if self._answer is not None:
            self._answer(zone, finding, start, end)


class AddressLookup:
    """One address in all zones of a panel. unanswered: zones that are still asked. failed: one of them gave no usable answer."""

    __slots__ = (
        "_found", "_over", "_panel", "_retries", "_sent", "_waiting", "address", "failed", "start_time", "unanswered"
    )  # fmt: skip

    def __init__(self, panel: Panel, address: str) -> None:
        self.address = address
        self.start_time = panel.loop.now
        self.unanswered = len(panel.zones)
        self.failed = False
        self._panel = panel
        self._waiting: list[Waiting] = []
        self._found: list[tuple[int, Finding, float]] = []  # number of the zone, what it said, and when
        self._sent: dict[int, SentQuery] = {}  # first queries without a reply, by number of the zone
        self._retries: dict[int, ZoneRetry] = {}
        self._over = False

    def start(self) -> None:
        """Ask the first resolver for all zones, by one socket."""
        panel = self._panel
        client: bytes | None = None
        via: UdpSocket | None = None
        try:
            client = reversed_labels(self.address)
            if panel.resolvers:
                via = panel.client.resolver(panel.resolvers[0]).draw()
        except (ValueError, OSError):
            pass  # what is still None says it
        for zone, tail in enumerate(panel.tails):
            if self._over:
                return
            if client is None or tail is None or len(client) + len(tail) > MAX_QUESTION:
                # No name can be made of it: nobody could list it.
                self._tell(zone, Finding(Outcome.ERROR))
            else:
                self._ask(via, zone, client + tail)
        if self._sent:
            panel.watch(self)

    def _ask(self, via: UdpSocket | None, zone: int, asked: bytes) -> None:
        if via is not None:
            try:
                query = via.send(asked, 0, zone, self)
            except OSError:
                pass
            else:
                if self._over:  # an earlier query's refusal came up in this call, and nobody waits any more
                    query.forget()
                else:
                    self._sent[zone] = query
                return
        self._retry(zone, asked, None).not_sent()

    # --- what the first resolver says

    def receive_reply(self, query: SentQuery, reply: Reply) -> None:
        """See Asker."""
        finding = None if reply.truncated else judge(reply)
        if finding is None or finding.outcome is Outcome.ERROR:
            self._retry_after(query).receive_reply(query, reply)
            return
        self._forget(query)
        self.zone_found(query.zone, finding)

    def query_failed(self, query: SentQuery, *, refused: bool) -> None:
        """See Asker."""
        if not self._over:
            self._retry_after(query).query_failed(query, refused=refused)

    def first_attempt_over(self) -> None:
        """The first resolver is silent, at least for some zones."""
        for query in list(self._sent.values()):
            if not self._over:
                self._retry_after(query).handle_deadline()

    def _forget(self, query: SentQuery) -> None:
        del self._sent[query.zone]
        if not self._sent:
            self._panel.unwatch(self)

    def _retry_after(self, query: SentQuery) -> ZoneRetry:
        self._forget(query)
        return self._retry(query.zone, query.asked, query)

    def _retry(self, zone: int, asked: bytes, first: SentQuery | None) -> ZoneRetry:
        panel = self._panel
        retry = self._retries[zone] = ZoneRetry(
            panel.client, panel.resolvers, asked, zone, self, first, self.start_time + panel.timeout
        )
        return retry

    # --- answers

    def zone_found(self, zone: int, finding: Finding) -> None:
        """The look-up in a zone has ended."""
        panel = self._panel
        panel.client.finished(panel.zones[zone], finding.outcome, panel.loop.now - self.start_time)
        if finding.failed:
            self.failed = True
        self._tell(zone, finding)

    def _tell(self, zone: int, finding: Finding) -> None:
        now = self._panel.loop.now
        name = self._panel.zones[zone]
        self.unanswered -= 1
        self._found.append((zone, finding, now))
        for waiting in tuple(self._waiting):
            waiting.receive(name, finding, self.start_time, now)

    def join(self, waiting: Waiting) -> None:
        """Tell this one, too, and what is known already."""
        self._waiting.append(waiting)
        for zone, finding, end in tuple(self._found):
            waiting.receive(self._panel.zones[zone], finding, self.start_time, end)

    def leave(self, waiting: Waiting) -> None:
        """Tell it nothing."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            if not self._waiting:
                if self.unanswered:
                    self._count_silent()
                self.abandon()

    def _count_silent(self) -> None:
        """A wait shorter than the time limit: a list that is dead is to be seen, too."""
        panel = self._panel
        took = panel.loop.now - self.start_time
        if took >= ATTEMPT:
            answered = {zone for zone, _, _ in self._found}
            for zone, name in enumerate(panel.zones):
                if zone not in answered:
                    panel.client.finished(name, Outcome.TIMEOUT, took)

    def abandon(self) -> None:
        """Ask no further; replies that still come are ignored."""
        self._over = True
        self._panel.remove(self)
        if self._sent:
            self._panel.unwatch(self)
            for query in self._sent.values():
                query.forget()
            self._sent.clear()
        for retry in self._retries.values():
            retry.abandon()


def _tail(zone: str) -> bytes | None:
    """What a question has behind the client's part."""
    try:
        return question(b"", zone_labels(zone))
    except ValueError:
        return None
