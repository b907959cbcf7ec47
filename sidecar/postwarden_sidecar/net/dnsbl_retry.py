"""One address in one zone where the first query was of no avail: the next resolver, the same again, TCP, until an answer or the end.

The first query may still be under way; its reply counts when it comes in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from postwarden_sidecar.dns.attempts import ATTEMPT, Attempts
from postwarden_sidecar.dns.message import Reply
from postwarden_sidecar.dns.outcome import Finding, Outcome, judge
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dns_tcp import TcpExchange
from postwarden_sidecar.net.dns_udp import SentQuery, UdpResolver
from postwarden_sidecar.net.loop import Loop


class Client(Protocol):
    """What it needs of the DnsblClient."""

    loop: Loop
    descriptors: Descriptors

    def resolver(self, address: SocketAddress) -> UdpResolver:
        """Its sockets."""


class Owner(Protocol):
    """Who wants to know. Is told once."""

    def zone_found(self, zone: int, finding: Finding) -> None:
        """The look-up has ended."""


class ZoneRetry:
    """asked: of message.question. zone: the owner's number. first: the query to the first resolver; None: it could not be sent. give_up:
    CLOCK_MONOTONIC seconds. What became of the first query is to be told at once, by one of the calls below."""

    __slots__ = (
        "_asked", "_attempts", "_client", "_errors", "_give_up", "_loop", "_over", "_owner", "_resolvers", "_sent", "_tcp",
        "_zone", "deadline", "queued_at",
    )  # fmt: skip

    def __init__(
        self,
        client: Client,
        resolvers: Sequence[SocketAddress],
        asked: bytes,
        zone: int,
        owner: Owner,
        first: SentQuery | None,
        give_up: float,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._client = client
        self._loop = client.loop
        self._resolvers = resolvers
        self._asked = asked
        self._zone = zone
        self._owner = owner
        self._give_up = give_up
        self._attempts = Attempts(len(resolvers))
        self._attempts.next_unasked()  # that was the first query's
        self._sent: list[SentQuery] = []
        self._tcp: TcpExchange | None = None
        self._errors = False  # a resolver has answered, though nothing of use
        self._over = False
        if first is not None:
            first.asker = self
            self._sent.append(first)
            self._wait()

    def not_sent(self) -> None:
        """The first resolver can't be asked, or there is none."""
        self._try_without(0)

    def _ask(self, resolver: int | None) -> None:
        while resolver is not None and not self._over:
            try:
                via = self._client.resolver(self._resolvers[resolver]).draw()
                query = via.send(self._asked, resolver, self._zone, self)
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
            self._wait()

    def _wait(self) -> None:
        self._loop.set_deadline(self, min(self._loop.now + ATTEMPT, self._give_up))

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
                self._loop,
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
        if self._loop.now >= self._give_up:
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
        self.abandon()
        self._owner.zone_found(self._zone, finding)

    def abandon(self) -> None:
        """Ask no further; replies that still come are ignored."""
        if self._over:
            return
        self._over = True
        self._loop.set_deadline(self, None)
        if self._tcp is not None:
            self._tcp.cancel()
            self._tcp = None
        for query in self._sent:
            query.forget()
        self._sent.clear()
