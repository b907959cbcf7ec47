"""Hand-offs `Plain`, `ProxyV1` and `ProxyV2`: a connection to the MTA, its opening watched, then bytes both
ways as they are.

No byte of the client goes to the MTA before its 220 (`handoff.reply_watch` says why). After the opening no
session limit of ours applies: cutting the wait after the end of data makes duplicates. Buffers are bounded:
who does not read stops the other from being read.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from postwarden_sidecar.engine.actions import HandoffOutcome
from postwarden_sidecar.handoff.reply_watch import Refused, ReplyWatch, Stage, WrongAnswer
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.connector import Connector
from postwarden_sidecar.net.environment import Environment
from postwarden_sidecar.net.handoff_owner import HandoffOwner
from postwarden_sidecar.net.occupancy import Presence
from postwarden_sidecar.net.relay_side import Side

# bytes that wait for one side before the other is no longer read; one read may go above it by READ_SIZE
MAX_BUFFER = 64 * 1024
READ_SIZE = 64 * 1024  # bytes of one recv
_OPENING_READ = 8 * 1024  # bytes of the client kept while its first command is unanswered (design)
_GONE = select.EPOLLHUP | select.EPOLLERR


class Relay:
    """One session. header: goes to the MTA before anything else."""

    def __init__(
        self,
        environment: Environment,
        client: socket.socket,
        header: bytes,
        addresses: Sequence[SocketAddress],
        owner: HandoffOwner | None,
        presence: Presence,
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self._environment = environment
        self._client = Side(client)
        self._mta: Side | None = None
        self._header = header
        self._presence = presence
        self._owner = owner
        self._watch = ReplyWatch()
        self._hangup_seen = False
        self._moved_at = 0.0
        self._connector: Connector | None = None
        if addresses:
            self._connector = Connector(environment, addresses, self._connected, self._not_connected)

    @classmethod
    def take_over(
        cls,
        environment: Environment,
        client: socket.socket,
        mta: socket.socket,
        to_mta: bytes,
        to_client: bytes,
        presence: Presence,
    ) -> Relay:
        """The relay of a session that was opened by a replay (handoff.replay): both sockets are its own. to_mta, to_client: go first;
        nothing is sent before `start`."""
        relay = cls(environment, client, b"", (), None, presence)
        relay._watch.stage = Stage.OVER
        relay._mta = Side(mta)
        relay._mta.out += to_mta
        relay._client.out += to_client
        environment.meter.move("handoff", "relay")
        return relay

    @property
    def closed(self) -> bool:
        """The client's socket was taken over and is closed."""
        return self._owner is None and self._client.socket.fileno() < 0

    def start(self) -> None:
        """Begin; the owner may be called before this returns."""
        if self._connector is None:
            self._start_opened()
            return
        try:
            self._environment.loop.watch(self._client.socket.fileno(), self, select.EPOLLRDHUP)
        except OSError as error:
            self._unwatched(error)
            return
        self._connector.start()

    def _start_opened(self) -> None:
        assert self._mta is not None
        self._client.flush()
        self._mta.flush()
        self._arm_idle()
        self._settle()

    # --- the opening

    def _not_connected(self, detail: str) -> None:
        self._give_back(HandoffOutcome.UNREACHABLE, detail)

    def _connected(self, connected: socket.socket) -> None:
        loop = self._environment.loop
        self._mta = Side(connected)
        self._mta.write(self._header)
        loop.set_deadline(self, loop.now + self._environment.timeouts.greeting)
        self._watch_both()

    def _give_back(self, outcome: HandoffOutcome, detail: str) -> None:
        owner = self._leave()
        greeted = self._watch.stage is not Stage.GREETING
        owner.handoff_failed(outcome, detail, greeting_ended=greeted, unsent=bytes(self._client.out))

    def _leave(self) -> HandoffOwner:
        """Let go of the client's socket and close the MTA's."""
        owner, self._owner = self._owner, None
        assert owner is not None
        loop = self._environment.loop
        loop.set_deadline(self, None)
        if self._client.socket.fileno() >= 0:
            loop.watch(self._client.socket.fileno(), self, 0)
        self._release_mta()
        return owner

    def _opened(self) -> None:
        """The first command is answered, or the client has ended: the client is the MTA's."""
        if self._owner is None:
            return
        owner, self._owner = self._owner, None
        self._watch.stage = Stage.OVER
        to_mta, to_client = self._watch.take_rest()
        assert self._mta is not None
        self._mta.write(to_mta)
        self._client.write(to_client)
        self._environment.meter.move("handoff", "relay")
        owner.handoff_done()

    # --- events

    def handle_events(self, fd: int, events: int) -> None:
        """One of the two sockets is ready."""
        client, mta = self._client, self._mta
        if events == select.EPOLLIN and self._owner is None and mta is not None:
            source, target = (client, mta) if fd == client.socket.fileno() else (mta, client)
            if not target.out:
                self._pass_on(source, target)
                return
        if fd == client.socket.fileno():
            if self._watch.stage is Stage.GREETING:
                self._look_for_hangup(events)
                return
            assert mta is not None
            if events & (select.EPOLLOUT | _GONE):
                client.flush()
            if events & (select.EPOLLIN | _GONE) and self._may_read_client():
                self._read_client()
        elif mta is not None:
            if events & (select.EPOLLOUT | _GONE):
                mta.flush()
            if events & (select.EPOLLIN | _GONE) and self._may_read_mta():
                self._read_mta()
        self._settle()

    def _pass_on(self, source: Side, target: Side) -> None:
        """What nearly all events of a relay are: one side has said something, and the other takes it all. Then what is watched stays."""
        self._move(source, target)
        if source.ended or target.out or target.broken:
            self._settle()

    def _move(self, source: Side, target: Side) -> None:
        """What one side has said goes to the other as it is."""
        data = source.read(READ_SIZE)
        if data is not None:
            self._moved_at = self._environment.loop.now
            target.write(data)

    def _look_for_hangup(self, events: int) -> None:
        """The client has ended before the greeting: it is gone, unless it said something that the MTA is to
        answer."""
        try:
            waiting = (
                not events & _GONE
                and self._client.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
            )
        except OSError:
            waiting = False
        if waiting:
            self._hangup_seen = True
            self._environment.loop.watch(self._client.socket.fileno(), self, 0)
        else:
            self._cancel_connecting()
            self._leave().client_lost()

    def _may_read_client(self) -> bool:
        return (
            not self._client.ended
            and self._watch.wants_client
            and self._mta is not None
            and len(self._mta.out) < MAX_BUFFER
        )

    def _may_read_mta(self) -> bool:
        return self._mta is not None and not self._mta.ended and len(self._client.out) < MAX_BUFFER

    def _read_client(self) -> None:
        assert self._mta is not None
        if self._owner is None:
            self._move(self._client, self._mta)
            return
        data = self._client.read(_OPENING_READ)
        if data is None:
            return
        self._moved_at = self._environment.loop.now
        if data:
            self._mta.write(self._watch.receive_from_client(data))
        else:
            self._mta.write(self._watch.receive_client_eof())
            self._opened()

    def _read_mta(self) -> None:
        assert self._mta is not None
        if self._owner is None:
            self._move(self._mta, self._client)
            return
        data = self._mta.read(READ_SIZE)
        if data is None:
            return
        self._moved_at = self._environment.loop.now
        if data:
            self._presence.end()  # the MTA has answered: it serves this client
        else:
            what = self._watch.describe_silence()
            self._give_back(HandoffOutcome.UNREACHABLE, f"the MTA closed the connection before {what}")
            return
        greeting = self._watch.stage is Stage.GREETING
        try:
            self._client.write(self._watch.receive_from_mta(data))
        except WrongAnswer as error:
            self._give_back(HandoffOutcome.WRONG_ANSWER, str(error))
            return
        except Refused as refusal:  # compiled, a name has one type in a function
            self._give_back(HandoffOutcome.REFUSED, str(refusal))
            return
        if greeting and self._watch.stage is not Stage.GREETING:
            self._hangup_seen = False
            self._arm_idle()
        if self._watch.stage is Stage.OVER:
            self._opened()

    def _settle(self) -> None:
        """Pass on what ended, end what is over, watch what is wanted."""
        client, mta = self._client, self._mta
        if mta is None:
            return
        if self._owner is not None and mta.ended:
            self._give_back(HandoffOutcome.UNREACHABLE, "the connection to the MTA broke")
            return
        if client.ended and mta.ended and not client.out and not mta.out:
            self.close()
            return
        for source, target in ((client, mta), (mta, client)):
            if source.ended and not target.out and not target.shut:
                target.shut_write()
                self._arm_idle()
        self._watch_both()

    def _watch_both(self) -> None:
        loop = self._environment.loop
        client, mta = self._client, self._mta
        assert mta is not None
        if self._watch.stage is Stage.GREETING:
            mask = 0 if self._hangup_seen else select.EPOLLRDHUP
        else:
            mask = (select.EPOLLIN if self._may_read_client() else 0) | (select.EPOLLOUT if client.out else 0)
        try:
            loop.watch(client.socket.fileno(), self, mask)
            mask = (select.EPOLLIN if self._may_read_mta() else 0) | (select.EPOLLOUT if mta.out else 0)
            loop.watch(mta.socket.fileno(), self, mask)
        except OSError as error:
            self._unwatched(error)

    def _unwatched(self, error: OSError) -> None:
        """epoll_ctl(2) has no memory, or too many are watched: nobody would tell when to go on."""
        if self._owner is not None:
            self._give_back(
                HandoffOutcome.NO_RESOURCES, f"the two sockets cannot be watched: {error.strerror}"
            )
        else:
            self.close()

    # --- time and end

    def _arm_idle(self) -> None:
        now = self._environment.loop.now
        self._moved_at = now
        self._environment.loop.set_deadline(self, now + self._idle_limit())

    def _idle_limit(self) -> float:
        timeouts = self._environment.timeouts
        mta_ended = self._mta is not None and self._mta.ended
        return timeouts.half_closed if mta_ended or self._client.broken else timeouts.relay_idle

    def handle_deadline(self) -> None:
        """No greeting in time, or nothing has moved for long."""
        loop = self._environment.loop
        if self._watch.stage is Stage.GREETING:
            self._give_back(HandoffOutcome.UNREACHABLE, "the MTA did not greet in time")
        elif self._moved_at + self._idle_limit() > loop.now:
            loop.set_deadline(self, self._moved_at + self._idle_limit())
        elif self._owner is not None:
            self._give_back(HandoffOutcome.UNREACHABLE, "the MTA or the client fell silent")
        else:
            self.close()

    def close(self) -> None:
        """End a relay, both sides."""
        self._cancel_connecting()
        self._release_mta()
        self._environment.loop.set_deadline(self, None)
        if self._owner is None and self._client.socket.fileno() >= 0:
            self._environment.loop.close(self._client.socket)
            self._environment.descriptors.opened -= 1
            self._environment.meter.move("relay", "")
            self._presence.end()  # it may have ended before the MTA said anything

    def fail(self) -> None:
        """A defect of ours."""
        self._cancel_connecting()
        if self._owner is not None:
            self._leave().fail()
        else:
            self.close()

    def _cancel_connecting(self) -> None:
        if self._connector is not None:
            self._connector.cancel()

    def _release_mta(self) -> None:
        if self._mta is not None:
            self._environment.loop.close(self._mta.socket)
            self._environment.descriptors.opened -= 1
            self._mta = None
