"""Hand-over in the middle of our dialogue: carries out `handoff.replay` on a connection to the MTA, and then gives both sockets to a
relay.

One a client. Between two hand-overs it may keep the MTA's connection, for the client's next MAIL. With `Pass` smtpd gets one end of a
socketpair and replay and relay go through the other (measured: the client's address is logged, STARTTLS works through it).

A client that is refused never gets a relay: its requests for exempt recipients are answered, and their mail goes through `data_relay`.
"""

from __future__ import annotations

import array
import select
import socket
from typing import Protocol

from postwarden_sidecar.engine.actions import Endpoints, HandoffOutcome, HandOver, HandoverOutcome, Replay
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.handoff.exempt_data import DataResult, ExemptData
from postwarden_sidecar.handoff.replay import MtaDialog, ReplayResult
from postwarden_sidecar.handoff.smtpd_pass import DESCRIPTOR_PAYLOAD, encode_attributes
from postwarden_sidecar.ipc.messages import UpstreamFault
from postwarden_sidecar.net.connector import Connector
from postwarden_sidecar.net.data_relay import DataRelay
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.occupancy import Presence
from postwarden_sidecar.net.relay import READ_SIZE, Relay
from postwarden_sidecar.net.route import Route
from postwarden_sidecar.net.transfer import Transfer, proxy_header
from postwarden_sidecar.rules.settings import Handoff

_GONE = select.EPOLLHUP | select.EPOLLERR


class HandoverOwner(Protocol):
    """The session. For each `begin` one of the four calls comes, once; perhaps before `begin` returns."""

    def handover_done(self, relay: Transfer, route: Route) -> None:
        """The client is the MTA's now, and its socket the relay's."""

    def handover_answered(self, outcome: HandoverOutcome, reply: bytes, unsent: bytes = b"") -> None:
        """The socket is the session's again; any outcome but DONE. reply: for the client, not yet sent. unsent: goes before it."""

    def client_lost(self) -> None:
        """The client went while the MTA was asked."""

    def fail(self) -> None:
        """A defect of ours: end the session."""


class Handover:
    """context: what the client's connection is decided by; it says what the client was offered."""

    def __init__(
        self,
        environment: Environment,
        client: socket.socket,
        context: Context,
        owner: HandoverOwner,
        presence: Presence,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._client = client
        self._offered = _offered(context) - presence.unoffered
        self._dialog = MtaDialog(self._offered, environment.timeouts.replay)
        self._owner = owner
        self._presence = presence
        self._endpoints: Endpoints | None = None
        self._replay: Replay | None = None
        self._route = environment.host.route()
        self._connector: Connector | None = None
        self._control: socket.socket | None = None  # smtpd's; open up to its greeting at least
        self._mta: socket.socket | None = None
        self._data: DataRelay | None = None
        self._active = False

    @property
    def closed(self) -> bool:
        """It never owns the client's socket."""
        return False

    def start(self) -> None:
        """Nothing is left to do: `begin` has begun."""

    def begin(self, action: HandOver) -> None:
        """Put the client's request to the MTA."""
        loop = self._environment.loop
        self._active = True
        self._endpoints, self._replay = action.endpoints, action.replay
        self._dialog.begin(action.replay, loop.now)
        try:
            loop.watch(self._client.fileno(), self, select.EPOLLRDHUP)
        except OSError:  # no memory, or too many are watched (epoll_ctl(2))
            self._not_connected("")
            return
        if self._dialog.wants_connection:
            self._connect()
        else:
            self._go_on()

    def _connect(self) -> None:
        self._release_mta()
        self._route = route = self._environment.host.route()
        if not (route.usable and self._environment.descriptors.for_handoff):
            self._not_connected("")
            return
        self._connector = Connector(self._environment, route.addresses, self._connected, self._not_connected)
        self._connector.start()

    def _not_connected(self, _: str) -> None:
        self._connector = None
        self._dialog.unreachable()
        self._go_on()

    def _connected(self, connected: socket.socket) -> None:
        self._connector = None
        endpoints = self._endpoints
        assert endpoints is not None
        header = b""
        if self._route.handoff is Handoff.PASS:
            self._control = connected
            if not self._pass_on(connected, endpoints):
                self._not_connected("")
                return
        else:
            self._mta = connected
            header = proxy_header(self._route.handoff, endpoints)
        assert self._mta is not None
        try:
            self._environment.loop.watch(self._mta.fileno(), self, select.EPOLLIN)
        except OSError:  # as in `begin`
            self._not_connected("")
            return
        self._dialog.connected(header, self._environment.loop.now)
        self._go_on()

    def _pass_on(self, control: socket.socket, endpoints: Endpoints) -> bool:
        """Give one end of a socketpair to smtpd. Our copy of that end is closed at once, so that we see it when smtpd closes its own."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            return False
        with theirs:
            passed = _pass_to_smtpd(control, theirs, endpoints)
        ours.setblocking(False)
        self._environment.descriptors.opened += 1
        self._mta = ours
        return passed

    # --- events

    def handle_events(self, fd: int, events: int) -> None:
        """The client hung up, or the MTA says something."""
        if fd == self._client.fileno():
            self._look_for_hangup(events)
        elif self._mta is not None:
            self._read_mta()

    def _look_for_hangup(self, events: int) -> None:
        """The client has ended: it is gone, unless it said something that the MTA is to answer."""
        assert self._replay is not None
        said_more = self._replay.rest != b""
        if not events & _GONE and not said_more:
            try:
                said_more = self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
            except OSError:
                said_more = False
        if not events & _GONE and said_more:
            self._environment.loop.watch(self._client.fileno(), self, 0)
        else:
            self.close()
            self._owner.client_lost()

    def _read_mta(self) -> None:
        assert self._mta is not None
        try:
            data = self._mta.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            if self._active:
                self._presence.end()  # the MTA serves this client
            self._dialog.receive_bytes(data, self._environment.loop.now)
        else:
            self._dialog.receive_eof()
        self._go_on()

    def _go_on(self) -> None:
        """Send what the MTA is to hear, or end."""
        output = self._dialog.data_to_send()
        if output:
            assert self._mta is not None
            try:
                # One command at a time, 2 KiB at most: the buffer of a peer that has answered all before takes it whole.
                complete = self._mta.send(output, socket.MSG_NOSIGNAL) == len(output)
            except OSError:
                complete = False
            if not complete:
                self._dialog.receive_eof()
        if not self._dialog.alive:
            self._release_mta()
        result = self._dialog.result
        if self._active and result is not None:
            self._end(result)
        else:
            self._environment.loop.set_deadline(self, self._dialog.next_deadline())

    def _end(self, result: ReplayResult) -> None:
        loop = self._environment.loop
        loop.set_deadline(self, None)
        if self._dialog.learned is not None:
            self._environment.host.learned(self._route, self._dialog.learned)
            given = {line.partition(" ")[0].upper() for line in self._dialog.learned}
            self._presence.told(self._offered, given)
            self._dialog.learned = None
        if result.wants_data:
            self._take_data(result)
            return
        if result.outcome is HandoverOutcome.DONE and result.client_silent and self._client_spoke():
            self._dialog.client_spoke()
            self._release_mta()
            assert self._dialog.result is not None
            result = self._dialog.result
        self._active = False
        loop.watch(self._client.fileno(), self, 0)
        if result.outcome is HandoverOutcome.DONE:
            mta, self._mta = self._mta, None
            assert mta is not None
            self._release_control()
            relay = Relay.take_over(
                self._environment, self._client, mta, result.rest, result.reply, self._presence
            )
            self._owner.handover_done(relay, self._route)
            relay.start()
        else:
            if result.wrong_answer:
                self._ask_for_proof(result.wrong_answer)
            self._owner.handover_answered(result.outcome, result.reply)

    def _take_data(self, prompt: ReplayResult) -> None:
        assert self._mta is not None
        environment = self._environment
        data = ExemptData(prompt.reply, prompt.rest, environment.loop.now, environment.timeouts.replay)
        self._data = DataRelay(environment, self._client, self._mta, data, self)
        self._data.start()

    def data_over(self, result: DataResult, unsent: bytes) -> None:
        """The mail to exempt recipients is answered, or will not be."""
        self.close()
        self._owner.handover_answered(result.outcome, result.reply, unsent)

    def data_lost(self) -> None:
        """The client went within the data."""
        self.close()
        self._owner.client_lost()

    def _ask_for_proof(self, why: str) -> None:
        outcome, route = HandoffOutcome.WRONG_ANSWER.value, self._route
        self._environment.host.upstream_fault(UpstreamFault(outcome, why, route.target, route.handoff.value))

    def _client_spoke(self) -> bool:
        """Whether input of the client waits (its end is none)."""
        try:
            return self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except OSError:
            return False

    # --- time and end

    def handle_deadline(self) -> None:
        """The MTA did not answer in time."""
        self._dialog.handle_timer(self._environment.loop.now)
        self._go_on()

    def close(self) -> None:
        """End at once; the client's socket stays the session's."""
        self._active = False
        self._environment.loop.set_deadline(self, None)
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None
        if self._data is not None:
            self._data.stop()
            self._data = None
        if self._client.fileno() >= 0:
            self._environment.loop.watch(self._client.fileno(), self, 0)
        self._release_mta()

    def fail(self) -> None:
        """A defect of ours."""
        self.close()
        self._owner.fail()

    def _release_mta(self) -> None:
        self._release(self._mta)
        self._mta = None
        self._release_control()

    def _release_control(self) -> None:
        self._release(self._control)
        self._control = None

    def _release(self, owned: socket.socket | None) -> None:
        if owned is not None:
            self._environment.loop.close(owned)
            self._environment.descriptors.opened -= 1


def _offered(context: Context) -> set[str]:
    """The keywords that our dialogue offers."""
    learned = {line.partition(" ")[0].upper() for line in context.ehlo or ()}
    return learned.difference(context.rules.session.hidden_extensions if context.rules else ())


def _pass_to_smtpd(control: socket.socket, passed: socket.socket, endpoints: Endpoints) -> bool:
    """Whether smtpd's socket took the descriptor and what goes with it: a fresh socket's buffer takes it whole."""
    attributes = encode_attributes(
        endpoints.client_address, endpoints.client_port, endpoints.server_address, endpoints.server_port
    )
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
    try:
        control.sendmsg([DESCRIPTOR_PAYLOAD], rights, socket.MSG_NOSIGNAL)
        return control.send(attributes, socket.MSG_NOSIGNAL) == len(attributes)
    except OSError:
        return False
