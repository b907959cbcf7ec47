"""One client from accept to hand-off or close: carries out what its engine asks, and tells it what the socket
does.

All decisions are the engine's; reading and writing are `client_socket`'s. A session has a hand-off under way, or none.
"""

from __future__ import annotations

import select
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial

from postwarden_sidecar.engine.actions import (
    Close,
    DnsblAnswer,
    EngineAction,
    HandOff,
    HandoffOutcome,
    HandOver,
    HandoverOutcome,
    Interest,
    LookupPass,
    Observe,
    PreparePass,
    QueryDnsbl,
    Send,
    StorePass,
)
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.proxy_header import Announced
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.ipc.messages import UpstreamFault
from postwarden_sidecar.net.client_socket import ClientSocket
from postwarden_sidecar.net.environment import Environment, Inquiry
from postwarden_sidecar.net.fault_record import fault_record
from postwarden_sidecar.net.handover import Handover
from postwarden_sidecar.net.loop import fail
from postwarden_sidecar.net.route import Route
from postwarden_sidecar.net.transfer import Transfer, choose_transfer

_GONE = select.EPOLLHUP | select.EPOLLERR


class Session:
    """peer, local: the socket's addresses, normalised. wall, began: the moment of its arrival, epoch and CLOCK_MONOTONIC seconds.
    ended(session, transfer): the session is over; transfer has the socket now, if it is not None. announced: by a PROXY header that
    another worker has read."""

    __slots__ = (
        "_began", "_client", "_context", "_dnsbl", "_draining", "_ended", "_engine", "_environment", "_handover", "_local",
        "_over", "_presence", "_pumping", "_recorded", "_route", "_stage", "_transfer", "_wall", "deadline",
        "place", "queued_at",
    )  # fmt: skip

    def __init__(
        self,
        environment: Environment,
        client: socket.socket,
        peer: tuple[str, int],
        local: tuple[str, int],
        wall: float,
        began: float,
        ended: Callable[[Session, Transfer | None], None],
        announced: Announced | None = None,
    ) -> None:
        self.place = -1  # among the driver's sessions; -1: not there
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._client = ClientSocket(client)
        self._local = local
        self._ended = ended
        self._context = context = environment.host.context()
        self._dnsbl: Inquiry | None = None
        self._presence = environment.occupancy.arrive(None if context.rules is None else context.rules.limits)
        # Neither is a method of ours: engine and session would hold each other.
        load, elsewhere = self._presence, partial(environment.neighbours.give, client, peer, local)
        self._engine = Connection(  # without stars, which are slow once compiled
            context, peer[0], peer[1], local[0], local[1], began, wall, load, announced, elsewhere
        )
        self._stage = ""
        self._transfer: Transfer | None = None
        self._handover: Handover | None = None  # kept between hand-overs that were only answered
        self._route: Route | None = None  # of a hand-off
        # Beside each other: compiled they share a word of each client that waits.
        self._draining = False
        self._pumping = False
        self._recorded = False
        self._over = False  # the socket is closed or the MTA's
        self._wall = wall
        self._began = began

    def begin(self, *, draining: bool, known: Mapping[str, float] | None = None) -> None:
        """Take the first actions; draining: turn the client away. known: of the passes of the client's address, if they have been looked
        up by now."""
        engine, now = self._engine, self._environment.loop.now
        if draining:
            engine.shut_down(now)
        elif known is not None and (first := engine.next_action()) is not None:
            if isinstance(first, LookupPass) and first.key == engine.endpoints.client_address:
                engine.receive_pass(known, now)
            else:
                self._carry_out(first)
        self._pump()

    def shut_down(self) -> None:
        """The worker drains. Who is being handed over goes on."""
        self._draining = True
        if self._transfer is None:
            self._engine.shut_down(self._environment.loop.now)
            self._pump()

    def close(self) -> None:
        """End at once, without a word."""
        self._lose()

    # --- the client's socket

    def handle_events(self, fd: int, events: int) -> None:
        """The client's socket is ready."""
        client, engine = self._client, self._engine
        if events & _GONE:
            self._lose()
            return
        try:
            client.serve(engine, self._environment.loop.now)
        except OSError:
            self._lose()
        self._pump()
        if not self._over and self._transfer is None and client.take_end(events, engine.interest):
            engine.receive_eof(self._environment.loop.now)
            self._pump()

    def _lose(self) -> None:
        """The client is gone, or has to go: nothing can be said to it."""
        if self._over:
            return
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.close()
        self._engine.connection_lost(self._environment.loop.now)
        self._take_last_actions()
        self._release()

    # --- the engine's actions

    def _pump(self) -> None:
        """Carry out actions until there are none, or the client does not take its reply."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not (self._client.unsent or self._over or self._transfer is not None):
                action = self._engine.next_action()
                if action is None:
                    break
                self._carry_out(action)
        finally:
            self._pumping = False
        if not self._over and self._transfer is None:
            self._watch()

    def _carry_out(self, action: EngineAction) -> None:
        # Not by `match`, which asks each class for its fields; the most frequent come first.
        host = self._environment.host
        if isinstance(action, Send):
            self._send(action.data)
        elif isinstance(action, Close):
            if action.linger:
                self._client.discard_input()
            self._release()
        elif isinstance(action, Observe):
            self._observe(action.record)
        elif isinstance(action, LookupPass):
            host.lookup_pass(action.key, self._receive_pass)
        elif isinstance(action, QueryDnsbl):
            assert self._context.rules is not None  # without rules there are no lists to ask
            self._dnsbl = host.query_dnsbl(action.address, self._context.rules, self._receive_dnsbl)
        elif isinstance(action, StorePass):
            host.store_pass(action.key, action.expiries)
        elif isinstance(action, PreparePass):
            host.prepare_pass(action.key)
        elif isinstance(action, HandOff):
            self._hand_off(action)
        else:
            self._hand_over(action)

    def _send(self, reply: bytes) -> None:
        engine, client = self._engine, self._client
        try:
            if engine.interest is Interest.PEEK:
                # A wait begins. Who has spoken already is answered with this reply, and in the same packet.
                client.serve(engine, self._environment.loop.now)
                reply += engine.take_reply()
            if engine.said_all:
                client.send_last(reply)
            else:
                client.send(reply)
        except OSError:
            self._lose()

    def _receive_pass(self, expiries: Mapping[str, float]) -> None:
        if self._over:
            return
        try:  # it comes from who serves other sessions, too
            self._engine.receive_pass(expiries, self._environment.loop.now)
            self._pump()
        except Exception:
            fail(self)

    def _receive_dnsbl(self, answer: DnsblAnswer) -> None:
        if self._over or self._transfer is not None:
            return
        try:
            if self._engine.receive_dnsbl(answer, self._environment.loop.now):
                self._pump()
        except Exception:
            fail(self)

    def _forget_dnsbl(self) -> None:
        if self._dnsbl is not None:
            self._dnsbl.cancel()
            self._dnsbl = None

    def _observe(self, record: Record) -> None:
        self._recorded = True
        self._environment.meter.count(record, record.duration)
        self._environment.host.record(record)

    def _take_last_actions(self) -> None:
        """What is left to do without the client's socket."""
        while (action := self._engine.next_action()) is not None:
            if isinstance(action, Observe):
                self._observe(action.record)
            elif isinstance(action, StorePass):
                self._environment.host.store_pass(action.key, action.expiries)

    def _watch(self) -> None:
        """Watch for what the engine wants, and for its deadline."""
        loop, engine, client = self._environment.loop, self._engine, self._client
        try:
            loop.watch(client.owned.fileno(), self, client.events(engine.interest))
        except OSError:  # no memory, or too many are watched (epoll_ctl(2)): nobody would tell when to go on
            fail(self)
            return
        when = engine.next_deadline()
        loop.set_deadline(self, client.deadline(when, loop.now, self._environment.timeouts.flush))
        if engine.stage != self._stage:
            self._environment.meter.move(self._stage, engine.stage)
            self._stage = engine.stage
            if engine.stage != "screening":
                self._forget_dnsbl()  # the wait is over, and who asks from now on asks anew

    def handle_deadline(self) -> None:
        """The engine's deadline, or a client that does not read its last reply."""
        now = self._environment.loop.now
        if self._client.too_slow(now):
            self._lose()
            return
        self._engine.handle_timer(now)
        self._pump()

    # --- hand-off

    def _leave_dialog(self) -> None:
        """The socket is watched by the hand-off from now on."""
        loop = self._environment.loop
        loop.watch(self._client.owned.fileno(), self, 0)
        loop.set_deadline(self, None)
        self._forget_dnsbl()
        self._environment.meter.move(self._stage, "handoff")
        self._stage = "handoff"
        self._presence.hand_over()

    def _hand_off(self, action: HandOff) -> None:
        self._leave_dialog()
        route = self._environment.host.route()
        self._route = route
        chosen = choose_transfer(
            self._environment, self._client.owned, action.endpoints, route, self, self._presence
        )
        if isinstance(chosen, tuple):
            self._end_handoff(*chosen, greeting_ended=False)
            return
        self._transfer = chosen
        chosen.start()

    def handoff_done(self) -> None:
        """The socket is the hand-off's."""
        transfer, self._transfer = self._transfer, None
        assert self._route is not None
        way = self._route.handoff.value
        self._engine.receive_handoff(
            HandoffOutcome.DONE, way, self._environment.loop.now, greeting_ended=True
        )
        self._give_away(transfer)

    def _give_away(self, transfer: Transfer | None) -> None:
        self._take_last_actions()
        self._over = True
        self._ended(self, transfer)

    def handoff_failed(
        self, outcome: HandoffOutcome, detail: str, *, greeting_ended: bool, unsent: bytes
    ) -> None:
        """The socket is ours again."""
        route = self._route
        if outcome is HandoffOutcome.WRONG_ANSWER and route is not None:
            fault = UpstreamFault(outcome.value, detail, route.target, route.handoff.value)
            self._environment.host.upstream_fault(fault)
        self._transfer = None
        self._client.unsent = unsent
        self._end_handoff(outcome, detail, greeting_ended=greeting_ended)
        self._pump()

    def _end_handoff(self, outcome: HandoffOutcome, detail: str, *, greeting_ended: bool) -> None:
        self._presence.take_back()
        self._engine.receive_handoff(
            outcome, detail, self._environment.loop.now, greeting_ended=greeting_ended
        )

    def client_lost(self) -> None:
        """The client went while it was handed over."""
        self._transfer = None
        self._lose()

    # --- hand-over in the middle of the dialogue

    def _hand_over(self, action: HandOver) -> None:
        self._leave_dialog()
        if self._handover is None:
            self._handover = Handover(
                self._environment, self._client.owned, self._context, self, self._presence
            )
        self._transfer = self._handover
        self._handover.begin(action)

    def handover_done(self, relay: Transfer, route: Route) -> None:
        """The socket is the relay's."""
        self._transfer = self._handover = None
        way = route.handoff.value.encode("ascii")
        self._engine.receive_handover(HandoverOutcome.DONE, way, self._environment.loop.now)
        self._give_away(relay)

    def handover_answered(self, outcome: HandoverOutcome, reply: bytes, unsent: bytes = b"") -> None:
        """The dialogue goes on, or ends with the reply."""
        self._transfer = None
        self._client.unsent = unsent
        self._presence.take_back()
        self._engine.receive_handover(outcome, reply, self._environment.loop.now)
        if self._draining:
            self._engine.shut_down(self._environment.loop.now)
        self._pump()

    # --- end

    def fail(self) -> None:
        """A defect of ours: this connection ends, with a verdict if it has none; the sender tries again."""
        transfer, self._transfer = self._transfer, None
        try:
            if transfer is not None:
                transfer.close()
            if not self._recorded and not self._over:
                ends, lasted = self._engine.endpoints, self._environment.loop.now - self._began
                peer = ends.peer_address, ends.peer_port
                self._observe(fault_record(peer, self._local, self._wall, lasted))
        except Exception:
            traceback.print_exc(file=sys.stderr)
        self._release()

    def _release(self) -> None:
        self._forget_dnsbl()
        if not self._over:
            self._over = True
            if self._handover is not None:
                self._handover.close()
                self._handover = None
            self._presence.end()
            loop = self._environment.loop
            loop.set_deadline(self, None)
            loop.close(self._client.owned)
            self._environment.descriptors.opened -= 1
            self._environment.meter.move(self._stage, "")
            self._stage = ""
            self._ended(self, None)
