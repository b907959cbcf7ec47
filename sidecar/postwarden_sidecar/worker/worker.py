"""A worker: the driver, told by the supervisor over the control pair what is in force.

It accepts once it knows its rules (or that there are none) and its upstream. New rules are for connections
that begin afterwards: an open one keeps the context that it began with.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record, Visit
from postwarden_sidecar.ipc.channel import Channel, ChannelFull, Message
from postwarden_sidecar.ipc.messages import (
    AcceptAlso,
    AcceptNoMore,
    AcceptPaused,
    Applied,
    Drain,
    EhloLearned,
    Neighbour,
    NoRules,
    PassAnswer,
    ProbeWanted,
    Ready,
    Resolvers,
    RulesInForce,
    SteeringInForce,
    Stress,
    Suspect,
    UpstreamFault,
    UpstreamInForce,
    ZoneProbed,
)
from postwarden_sidecar.ipc.page import CELLS, SUSPECT, Page
from postwarden_sidecar.ipc.pair import ChannelClosed, ChannelFault, close_all
from postwarden_sidecar.ipc.records import RecordSender
from postwarden_sidecar.net.driver import Driver
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.route import Route, make_route
from postwarden_sidecar.net.steering import Steering
from postwarden_sidecar.net.timeouts import Timeouts
from postwarden_sidecar.rules.image import decode
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Rules
from postwarden_sidecar.worker.blocklists import BlocklistInquiry, Blocklists
from postwarden_sidecar.worker.passes import Passes

# Seconds between two tellings of what a replay learned: an MTA that offers by client is not to keep all workers and the disk busy.
LEARNED_PACE = 30.0
# Seconds between two packets of records. One costs worker, kernel and supervisor some 300 us whatever is in it, a record a hundredth of
# that (docs/performance.md). A client that comes alone is told of at once, and no person sees 50 ms.
RECORDS_PACE = 0.05
ORPHAN_DRAIN = 20.0  # seconds that relays may go on once the supervisor is gone (--drain-timeout's default)


class Worker:
    """One process's worth. run() returns when it has drained."""

    def __init__(
        self,
        listener: socket.socket,
        channel: Channel,
        records: RecordSender,
        page: Page,
        cells: memoryview,
        *,
        index: int = 0,
        limit: int,
        timeouts: Timeouts | None = None,
    ) -> None:
        """index: our number among the workers. limit: file descriptors that the process may have open."""
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._loop = Loop()
        self._channel = channel
        self._records = records
        self._passes = Passes(self._loop, channel, page.passes)
        self._cells = cells
        self._suspect = ""
        self._driver = Driver(
            self._loop, listener, self, page, cells, index=index, limit=limit, timeouts=timeouts
        )
        self._blocklists = Blocklists(
            self._loop, self._driver.descriptors, page.lookups, index, self._want_probe
        )
        self._rules: Rules | None = None
        self._rules_known = False
        self._defer = False
        self._bootstrap_proxies = EMPTY
        self._upstream: UpstreamInForce | None = None
        self._ehlo_in_force: tuple[str, ...] | None = None  # as the supervisor said last
        self._tell_learned_at = 0.0
        self._records_due = 0.0  # when the next packet may go
        self._route = make_route(UpstreamInForce("", "", False, "no upstream is known yet", "", None))
        self._context = Context(None, True, "", None)
        self._accepting = False
        self._control_open = True
        self._terminated = False
        self._loop.watch(channel.fileno(), self, select.EPOLLIN)
        self._loop.each_turn.append(self._end_turn)

    def run(self) -> None:
        """Serve until drained."""
        self._loop.run()
        self._records_flush()
        self._driver.close()
        self._blocklists.client.close()
        self._loop.release()
        self._channel.close()
        self._records.close()

    def terminate(self) -> None:
        """Drain, as at the end of the control pair; from a signal handler."""
        self._terminated = True
        self._loop.wake()

    # --- what the driver asks (net.environment.Host)

    def context(self) -> Context:
        """What a connection that begins now is decided by."""
        return self._context

    def route(self) -> Route:
        """Where a client that is handed over now goes."""
        return self._route

    def lookup_pass(self, key: str, answer: Callable[[Mapping[str, float]], None]) -> None:
        """See Passes."""
        if self._control_open:
            self._passes.lookup(key, answer)
        else:
            answer({})

    def prepare_pass(self, key: str) -> None:
        """See Passes."""
        if self._control_open:
            self._passes.prepare(key)

    def remembered(self, key: str) -> Mapping[str, float]:
        """See Passes."""
        return self._passes.remembered(key)

    def store_pass(self, key: str, expiries: Mapping[str, float]) -> None:
        """See Passes."""
        if self._control_open:
            self._passes.store(key, expiries)

    def query_dnsbl(
        self, address: str, rules: Rules, answer: Callable[[DnsblAnswer], None]
    ) -> BlocklistInquiry:
        """See Blocklists."""
        return self._blocklists.query(address, rules.dnsbl, answer)

    def record(self, record: Record) -> None:
        """Into the batch, which goes at the end of this turn, or RECORDS_PACE after the one before; what does not fit is dropped and
        counted."""
        try:
            self._records.send(record)
        except ChannelClosed:  # the supervisor is gone, which the control pair says
            return

    def record_alike(self, template: Record, visit: Visit) -> None:
        """As `record`."""
        try:
            self._records.send_alike(template, visit)
        except ChannelClosed:
            return

    def learned(self, route: Route, ehlo: tuple[str, ...]) -> None:
        """A replay's EHLO renews what the proof's had learned, up to the next proof: here at once, elsewhere at a pace."""
        current = self._upstream
        if current is None or (current.target, current.handoff) != (route.target, route.handoff.value):
            return
        if current.ehlo != ehlo:
            self._upstream = msgspec.structs.replace(current, ehlo=ehlo)
            self._renew_context()
        if ehlo != self._ehlo_in_force and self._loop.now >= self._tell_learned_at and self._control_open:
            self._tell_learned_at = self._loop.now + LEARNED_PACE
            with suppress(ChannelFull):  # the next replay tells it again
                self._channel.send(EhloLearned(route.target, route.handoff.value, ehlo))

    def upstream_fault(self, fault: UpstreamFault) -> None:
        """Ask for a new proof."""
        if self._control_open:
            with suppress(ChannelFull):  # the supervisor has a thousand of them to read
                self._channel.send(fault)

    def accept_paused(self, why: str) -> None:
        """For the log."""
        if self._control_open:
            with suppress(ChannelFull, ChannelClosed):  # as below
                self._channel.send(AcceptPaused(why))

    def stress_changed(self, on: bool, connections: int) -> None:
        """For the log."""
        if self._control_open:
            with suppress(ChannelFull, ChannelClosed):  # as above; the end of the pair is told by itself
                self._channel.send(Stress(on, connections))

    # --- the control pair

    def handle_events(self, fd: int, events: int) -> None:
        """The supervisor says something, or takes what waits."""
        try:
            if events & select.EPOLLOUT:
                self._channel.flush()
            while self._control_open and (received := self._channel.receive()) is not None:
                self._receive(received[0], received[1])
        except (ChannelClosed, ChannelFault):
            self._orphaned()

    def _receive(self, message: Message, descriptors: tuple[int, ...]) -> None:
        match message:
            case RulesInForce(serial=serial):
                self._apply(serial, descriptors)
            case NoRules(serial=serial, defer=defer, proxy_trusted=proxies):
                self._rules, self._defer, self._rules_known = None, defer, True
                self._bootstrap_proxies = AddressTable.from_networks(
                    (each, AccessAction.PERMIT, 0) for each in proxies
                )
                self._blocklists.set_rules(None)
                self._renew_context()
                self._channel.send(Applied(serial, ""))
            case UpstreamInForce():
                self._upstream = message
                self._ehlo_in_force = message.ehlo
                self._route = make_route(message)
                self._renew_context()
            case SteeringInForce(workers=workers, ipv4=ipv4, ipv6=ipv6, out=out):
                self._driver.neighbours.steering = Steering(workers, ipv4, ipv6, out)
            case Neighbour(index=index):
                self._driver.neighbours.connect(index, _one_socket(descriptors))
            case AcceptAlso(index=index):
                self._driver.accept_also(index, _one_socket(descriptors))
            case AcceptNoMore(index=index):
                self._driver.accept_no_more(index)
            case PassAnswer():
                self._passes.receive(message)
            case Resolvers():
                self._blocklists.set_resolvers(message)
            case ZoneProbed():
                self._blocklists.receive_probe(message)
            case Suspect(address=address):
                self._suspect = address
                self._cells[CELLS[SUSPECT]] = bool(address)
                self._renew_context()
            case Drain(timeout=timeout):
                self._driver.drain(timeout, self._loop.stop)
            case _:
                close_all(descriptors)
                raise ChannelFault(f"{type(message).__name__} is for supervisors")
        if not self._accepting and self._rules_known and self._upstream is not None:
            self._accepting = True
            self._driver.start()
            self._channel.send(Ready(os.getpid()))

    def _apply(self, serial: int, descriptors: Sequence[int]) -> None:
        """Map the image; it stays mapped as long as a connection is decided by it."""
        try:
            if len(descriptors) != 1:
                raise ValueError(f"{len(descriptors)} descriptors came with the rules")
            size = os.fstat(descriptors[0]).st_size
            # Sealed since the supervisor wrote it: to read it all for its checksum would only keep clients waiting.
            rules = decode(memoryview(mmap.mmap(descriptors[0], size, prot=mmap.PROT_READ)), checked=True)
        except (ValueError, OSError) as error:
            self._channel.send(Applied(serial, str(error) or type(error).__name__))
            return
        finally:
            close_all(descriptors)
        self._rules, self._defer, self._rules_known = rules, False, True
        self._blocklists.set_rules(rules)
        self._renew_context()
        self._channel.send(Applied(serial, ""))

    def _want_probe(self, zone: str) -> bool:
        if self._control_open:
            with suppress(ChannelFull, ChannelClosed):
                self._channel.send(ProbeWanted(zone))
                return True
        return False

    def _renew_context(self) -> None:
        banner = self._upstream.banner if self._upstream is not None else ""
        ehlo = self._upstream.ehlo if self._upstream is not None else None
        self._context = Context(
            self._rules, self._defer, banner, ehlo, self._suspect, self._bootstrap_proxies
        )

    def _orphaned(self) -> None:
        """The supervisor is gone: no one could tell us anything new."""
        if self._control_open:
            self._control_open = False
            self._loop.watch(self._channel.fileno(), self, 0)
            self._driver.drain(ORPHAN_DRAIN, self._loop.stop)

    # --- turns

    def _end_turn(self) -> None:
        if self._terminated:
            self._terminated = False
            self._driver.drain(ORPHAN_DRAIN, self._loop.stop)
        self._records_pace()
        if self._control_open:
            try:
                self._passes.ask()
                self._passes.send_waiting()
            except ChannelClosed:
                self._orphaned()
                return
            wanted = select.EPOLLOUT if self._channel.wants_write else 0
            self._loop.watch(self._channel.fileno(), self, select.EPOLLIN | wanted)

    def _records_pace(self) -> None:
        """What waits goes now, or at a turn that comes in time."""
        if not self._records.pending:
            return
        now = self._loop.now
        if now >= self._records_due:
            self._records_due = now + RECORDS_PACE
            self._records_flush()
        if (
            self._records.pending and self.deadline is None
        ):  # for the pace, or because the supervisor is behind
            self._loop.set_deadline(self, self._records_due)

    def _records_flush(self) -> None:
        with suppress(ChannelClosed):  # as in `record`
            self._records.flush()

    def handle_deadline(self) -> None:
        """Records are due: the turn's end sends them."""

    def fail(self) -> None:
        """A defect in reading the control pair: without it this worker can't know what is in force."""
        self._orphaned()


def _one_socket(descriptors: Sequence[int]) -> socket.socket:
    """What came with a message that brings a socket. Raises ChannelFault."""
    if len(descriptors) != 1:
        close_all(descriptors)
        raise ChannelFault(f"{len(descriptors)} descriptors came in place of a socket")
    return socket.socket(fileno=descriptors[0])
