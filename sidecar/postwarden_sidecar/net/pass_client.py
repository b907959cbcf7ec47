"""Hand-off `Pass`: the client's own descriptor goes to Postfix's smtpd, which then serves it alone.

A client that came through a proxy is passed in the same way. Its header was taken out of the socket and
nothing else, so what smtpd finds there is the client's; and smtpd takes all addresses from the attributes. A
socketpair in between would only add two copies of every byte; it is for sessions that are handed over in
their middle.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from postwarden_sidecar.engine.actions import Endpoints, HandoffOutcome
from postwarden_sidecar.handoff.smtpd_pass import encode_attributes
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.connector import Connector
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.handoff_owner import HandoffOwner
from postwarden_sidecar.net.occupancy import Presence
from postwarden_sidecar.net.smtpd_control import pass_descriptor


class PassClient:
    """Once all is sent the hand-off is done: nothing may be written to the client from then on, for smtpd may
    be speaking to it. The control socket and the client's descriptor stay open until smtpd closes the first
    (some systems discard data on an early close)."""

    def __init__(
        self,
        environment: Environment,
        client: socket.socket,
        endpoints: Endpoints,
        addresses: Sequence[SocketAddress],
        owner: HandoffOwner,
        presence: Presence,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._client = client
        self._endpoints = endpoints
        self._presence = presence
        self._owner: HandoffOwner | None = owner
        self._control: socket.socket | None = None
        self._connector = Connector(environment, addresses, self._connected, self._not_connected)

    @property
    def closed(self) -> bool:
        """The client's socket was taken over and is closed."""
        return self._owner is None and self._client.fileno() < 0

    def start(self) -> None:
        """Begin; the owner may be called before this returns."""
        self._connector.start()

    def close(self) -> None:
        """End at once, at whatever step."""
        self._connector.cancel()
        self._release_control()
        if self._owner is None:
            self._release_client()

    def _not_connected(self, detail: str) -> None:
        self._give_back(HandoffOutcome.UNREACHABLE, detail)

    def _connected(self, control: socket.socket) -> None:
        self._control = control
        endpoints = self._endpoints
        attributes = encode_attributes(
            endpoints.client_address, endpoints.client_port, endpoints.server_address, endpoints.server_port
        )
        try:
            complete = pass_descriptor(control, self._client.fileno(), attributes)
        except OSError as error:
            self._give_back(
                HandoffOutcome.NO_RESOURCES, f"the client's descriptor could not be passed: {error.strerror}"
            )
            return
        if not complete:
            self._give_back(HandoffOutcome.NO_RESOURCES, "the client's addresses could not be passed")
            return
        loop = self._environment.loop
        timeouts = self._environment.timeouts
        limit = timeouts.pass_control
        try:
            loop.watch(control.fileno(), self, select.EPOLLIN)
        except (
            OSError
        ):  # no memory, or too many are watched (epoll_ctl(2)); smtpd has the client all the same
            limit = timeouts.connect_unix
        loop.set_deadline(self, loop.now + limit)
        owner, self._owner = self._owner, None
        assert owner is not None
        owner.handoff_done()

    def handle_events(self, fd: int, events: int) -> None:
        """smtpd has closed the control socket: it has the client."""
        assert self._control is not None
        try:
            if self._control.recv(512):
                return  # smtpd says nothing; whatever this is, wait for the end
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def handle_deadline(self) -> None:
        """smtpd did not take the client in time; the client sees FIN or smtpd, whichever has it."""
        self.close()

    def fail(self) -> None:
        """A defect of ours."""
        owner, self._owner = self._owner, None
        self._connector.cancel()
        self._release_control()
        if owner is None:
            self._release_client()
        else:
            owner.fail()

    def _give_back(self, outcome: HandoffOutcome, detail: str) -> None:
        self._release_control()
        owner, self._owner = self._owner, None
        assert owner is not None
        owner.handoff_failed(outcome, detail, greeting_ended=False, unsent=b"")

    def _release_control(self) -> None:
        self._environment.loop.set_deadline(self, None)
        if self._control is not None:
            self._environment.loop.close(self._control)
            self._environment.descriptors.opened -= 1
            self._control = None

    def _release_client(self) -> None:
        self._presence.end()
        if self._client.fileno() >= 0:
            self._environment.loop.close(self._client)  # no shutdown: smtpd has the same socket
            self._environment.descriptors.opened -= 1
            self._environment.meter.move("handoff", "")
