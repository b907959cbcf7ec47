"""Look-ups in block lists: one question a zone, shared by all who ask for the same address at the same time.

An answer is kept as long as one of those who got it is still in its wait, and no longer: a client that passes is remembered by its pass,
and the resolver has a cache. A look-up that nobody waits for any more is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postwarden_sidecar.dns.attempts import ATTEMPT, Attempts
from postwarden_sidecar.dns.message import Reply, question, reversed_labels, zone_labels
from postwarden_sidecar.dns.outcome import Finding, Outcome, judge
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dns_tcp import TcpExchange
from postwarden_sidecar.net.dns_udp import Random16, SentQuery, UdpResolver
from postwarden_sidecar.net.loop import Loop

Answer = Callable[
    [str, Finding, float, float], None
]  # zone, finding, start and end in CLOCK_MONOTONIC seconds
Finished = Callable[[str, Outcome, float], None]  # for metrics: zone, outcome, seconds


class DnsblClient:
    """One a worker. No call blocks."""

    def __init__(self, loop: Loop, descriptors: Descriptors, finished: Finished) -> None:
        """finished: called once a look-up, whoever shared it; not for one that nobody waits for any more, unless it has outlasted an
        attempt."""
        self.loop = loop
        self.descriptors = descriptors
        self.finished = finished
        self._random = Random16()
        self._resolvers: dict[SocketAddress, UdpResolver] = {}
        self._lookups: dict[tuple[str, str], Lookup] = {}
        self._answered: dict[tuple[str, str], Answered] = {}

    @property
    def open_lookups(self) -> int:
        """Look-ups under way."""
        return len(self._lookups)

    def query(
        self,
        address: str,
        zones: Sequence[str],
        resolvers: Sequence[SocketAddress],
        timeout: float,
        answer: Answer,
    ) -> Waiting:
        """Call answer once a zone, within timeout seconds; it may be called before this returns. resolvers: in the order of
        preference. Who joins a look-up that is under way shares its time limit and its resolvers."""
        waiting = Waiting(answer)
        try:
            client = reversed_labels(address)
        except ValueError:
            client = None
        for zone in zones:
            lookup = self._lookups.get((address, zone))
            if lookup is not None:
                lookup.join(waiting)
                continue
            answered = self._answered.get((address, zone))
            if answered is not None:
                waiting.hold(answered)
                answer(zone, answered.finding, answered.start, answered.end)
                continue
            try:
                asked = question(client, zone_labels(zone)) if client is not None else None
            except ValueError:
                asked = None
            if asked is None:  # no name can be made of it: nobody could list it
                answer(zone, Finding(Outcome.ERROR), self.loop.now, self.loop.now)
                continue
            lookup = Lookup(self, (address, zone), asked, tuple(resolvers), timeout)
            self._lookups[address, zone] = lookup
            lookup.join(waiting)
            lookup.start()
        return waiting

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

    def remove(self, key: tuple[str, str]) -> None:
        """The look-up is over."""
        del self._lookups[key]

    def keep(self, key: tuple[str, str], finding: Finding, start: float, waiting: Sequence[Waiting]) -> None:
        """For who asks while one of waiting is not done yet."""
        answered = self._answered[key] = Answered(self._answered, key, finding, start, self.loop.now)
        for one in waiting:
            one.hold(answered)

    def close(self) -> None:
        """End all without an answer."""
        for lookup in list(self._lookups.values()):
            lookup.abandon()
        self.keep_only(())


class Answered:
    """What a look-up found, while somebody holds it. start, end: CLOCK_MONOTONIC seconds."""

    __slots__ = ("_all", "_holders", "_key", "end", "finding", "start")

    def __init__(
        self,
        everything: dict[tuple[str, str], Answered],
        key: tuple[str, str],
        finding: Finding,
        start: float,
        end: float,
    ) -> None:
        self._all = everything
        self._key = key
        self._holders = 0
        self.finding = finding
        self.start = start
        self.end = end

    def take(self) -> None:
        """One more holds it."""
        self._holders += 1

    def release(self) -> None:
        """One of them does not any more; with the last one it is forgotten."""
        self._holders -= 1
        if not self._holders and self._all.get(self._key) is self:
            del self._all[self._key]


class Waiting:
    """Who waits for one address's answers. It is to be cancelled in the end, whether they came or not."""

    __slots__ = ("_answer", "_held", "_lookups")

    def __init__(self, answer: Answer) -> None:
        self._answer: Answer | None = answer
        self._lookups: list[Lookup] = []
        self._held: list[Answered] = []

    def cancel(self) -> None:
        """No answer is wanted any more."""
        self._answer = None
        lookups, self._lookups = self._lookups, []
        for lookup in lookups:
            lookup.leave(self)
        held, self._held = self._held, []
        for answered in held:
            answered.release()

    def hold(self, answered: Answered) -> None:
        """Keep it for others who may ask until this one is done."""
        if self._answer is not None:
            answered.take()
            self._held.append(answered)

    def join(self, lookup: Lookup) -> None:
        """Wait for this one, too."""
        self._lookups.append(lookup)

    def receive(self, lookup: Lookup, finding: Finding) -> None:
        """It has ended."""
        if self._answer is not None:
            self._lookups.remove(lookup)
            self._answer(lookup.zone, finding, lookup.start_time, lookup.loop.now)


class Lookup:
    """One address in one zone."""

    __slots__ = (
        "_asked", "_attempts", "_client", "_errors", "_give_up", "_key", "_over", "_resolvers", "_sent", "_tcp", "_waiting",
        "deadline", "loop", "queued_at", "start_time", "zone",
    )  # fmt: skip

    def __init__(
        self,
        client: DnsblClient,
        key: tuple[str, str],
        asked: bytes,
        resolvers: tuple[SocketAddress, ...],
        timeout: float,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.loop = client.loop
        self.zone = key[1]
        self.start_time = client.loop.now
        self._client = client
        self._key = key
        self._asked = asked
        self._resolvers = resolvers
        self._give_up = client.loop.now + timeout
        self._attempts = Attempts(len(resolvers))
        self._sent: list[SentQuery] = []
        self._tcp: TcpExchange | None = None
        self._waiting: list[Waiting] = []
        self._errors = False  # a resolver has answered, though nothing of use
        self._over = False

    def start(self) -> None:
        """Ask the first resolver."""
        self._ask(self._attempts.next())

    def join(self, waiting: Waiting) -> None:
        """Tell this one, too."""
        self._waiting.append(waiting)
        waiting.join(self)

    def leave(self, waiting: Waiting) -> None:
        """Tell it nothing."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            if not self._waiting:
                took = self.loop.now - self.start_time
                if (
                    took >= ATTEMPT and not self._over
                ):  # a wait shorter than the time limit: a list that is dead is to be seen, too
                    self._client.finished(self.zone, Outcome.TIMEOUT, took)
                self.abandon()

    def _ask(self, resolver: int | None) -> None:
        while resolver is not None and not self._over:
            try:
                endpoint = self._client.resolver(self._resolvers[resolver])
                query = endpoint.send(self._asked, resolver, self)
                if self._over:  # an earlier query's refusal came up in this call, and nobody is left to ask
                    query.forget()
                    return
                self._sent.append(query)
                break
            except OSError:
                self._attempts.fail(resolver)
                resolver = self._attempts.next_unasked()
        if self._over:
            return
        if self._attempts.exhausted:
            self._finish(Finding(Outcome.ERROR if self._errors else Outcome.UNREACHABLE))
        else:
            self.loop.set_deadline(self, min(self.loop.now + ATTEMPT, self._give_up))

    # --- what resolvers say

    def receive_reply(self, query: SentQuery, reply: Reply) -> None:
        """See Asker."""
        if self._over:
            return
        self._sent.remove(query)
        if reply.truncated:
            self._ask_by_tcp(query)
        else:
            self._conclude(query.resolver, reply)

    def query_failed(self, query: SentQuery, *, refused: bool) -> None:
        """See Asker."""
        if self._over:
            return
        self._sent.remove(query)
        self._errors = self._errors or not refused
        self._try_without(query.resolver)

    def _ask_by_tcp(self, query: SentQuery) -> None:
        if self._tcp is not None:
            return  # a second attempt's reply; the first one's exchange goes on

        def ended(reply: Reply | None) -> None:
            self._tcp = None
            if reply is None:
                self._errors = True
                self._try_without(query.resolver)
            else:
                self._conclude(query.resolver, reply)

        try:
            self._tcp = TcpExchange(
                self.loop,
                self._client.descriptors,
                self._resolvers[query.resolver],
                query.identifier,
                self._asked,
                ended,
            )
        except OSError:
            self._try_without(query.resolver)

    def _conclude(self, resolver: int, reply: Reply) -> None:
        finding = judge(reply)
        if finding.outcome is Outcome.ERROR:
            self._errors = True
            self._try_without(resolver)
        else:
            self._finish(finding)

    def _try_without(self, resolver: int) -> None:
        self._attempts.fail(resolver)
        if not self._over:
            self._ask(self._attempts.next_unasked())

    # --- time

    def handle_deadline(self) -> None:
        """The resolver is silent: the next one, or the end."""
        if self.loop.now >= self._give_up:
            self._finish(Finding(Outcome.TIMEOUT))
        else:
            self._ask(self._attempts.next())

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def fail(self) -> None:
        """A defect of ours: no answer."""
        if not self._over:
            self._finish(Finding(Outcome.ERROR))

    # --- end

    def _finish(self, finding: Finding) -> None:
        waiting, self._waiting = self._waiting, []
        self.abandon()
        self._client.finished(self.zone, finding.outcome, self.loop.now - self.start_time)
        if not finding.failed and waiting:
            self._client.keep(self._key, finding, self.start_time, waiting)
        for one in waiting:
            one.receive(self, finding)

    def abandon(self) -> None:
        """Ask no further; replies that still come are ignored."""
        if self._over:
            return
        self._over = True
        self._client.remove(self._key)
        self.loop.set_deadline(self, None)
        if self._tcp is not None:
            self._tcp.cancel()
            self._tcp = None
        for query in self._sent:
            query.forget()
        self._sent.clear()
