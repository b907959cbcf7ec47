"""The other workers: a client that came through a trusted proxy goes to the one that has this client.

Where the proxy's connection lands says nothing of the client, so the header is read there and the connection is given away: a message
with the descriptor over a SEQPACKET pair. The header's last bytes are still in the socket then and are discarded by the receiver; so is
nothing of what the client said lost, and a connection that can't be given away is simply kept.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import msgspec

from postwarden_sidecar.engine.proxy_header import Announced
from postwarden_sidecar.ipc.messages import Moved
from postwarden_sidecar.ipc.pair import (
    ChannelClosed,
    ChannelFault,
    close_all,
    prepare,
    receive_packet,
    send_packet,
)
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.steering import Steering

_PACKETS_A_TURN = 16  # taken from one neighbour before others have their turn


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Moved)


class Neighbours:
    """Our ends of the pairs. index: our own number. adopt: takes over a client that another worker gave us. has_room: asked before each
    of them; while it says no, they wait in the pairs, and once those are full whoever would give us one keeps it."""

    def __init__(
        self,
        loop: Loop,
        index: int,
        adopt: Callable[[socket.socket, Moved], None],
        has_room: Callable[[], bool],
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.steering = Steering(1)
        self._loop = loop
        self._index = index
        self._adopt = adopt
        self._has_room = has_room
        self._mask = select.EPOLLIN
        self._ends: dict[int, socket.socket] = {}

    def connect(self, index: int, end: socket.socket) -> None:
        """Take over our end of the pair with worker `index`; the one before is closed."""
        self._drop(index)
        prepare(end)
        self._ends[index] = end
        self._loop.watch(end.fileno(), self, self._mask)

    def watch(self, wanted: bool) -> None:
        """Whether clients are to be taken over."""
        self._mask = select.EPOLLIN if wanted else 0
        for end in self._ends.values():
            self._loop.watch(end.fileno(), self, self._mask)

    def give(
        self,
        client: socket.socket,
        peer: tuple[str, int],
        local: tuple[str, int],
        announced: Announced,
        size: int,
    ) -> bool:
        """Whether the client is another worker's now; then nothing is to be done but to close our descriptor. size: bytes of the
        header that wait in the socket."""
        if self.steering.workers == 1:
            return False
        owner = self.steering.owner(announced.client_address)
        end = self._ends.get(owner)
        if owner == self._index or end is None:
            return False
        try:
            return send_packet(end, _encoder.encode(Moved(peer, local, announced, size)), [client.fileno()])
        except (
            ChannelClosed,
            OSError,
        ):  # it is dead, or too many descriptors are in flight: we keep the client
            return False

    def handle_events(self, fd: int, events: int) -> None:
        """A neighbour gives us clients, or has ended."""
        found = [index for index, end in self._ends.items() if end.fileno() == fd]
        for index in found:
            self._receive(index, self._ends[index])

    def _receive(self, index: int, end: socket.socket) -> None:
        try:
            for _ in range(_PACKETS_A_TURN):
                if not self._has_room():
                    return
                received = receive_packet(end)
                if received is None:
                    return
                packet, descriptors = received
                if len(descriptors) != 1:
                    close_all(descriptors)
                    raise ChannelFault(f"{len(descriptors)} descriptors came with a client")
                client = socket.socket(fileno=descriptors[0])
                try:
                    moved = _decoder.decode(packet)
                except msgspec.DecodeError as error:
                    client.close()
                    raise ChannelFault(f"no client: {error}") from error
                self._adopt(client, moved)
        except (ChannelClosed, ChannelFault):
            self._drop(index)  # the supervisor makes a new pair with the neighbour's next life

    def _drop(self, index: int) -> None:
        end = self._ends.pop(index, None)
        if end is not None:
            self._loop.close(end)

    def handle_deadline(self) -> None:
        """It has none."""

    def fail(self) -> None:
        """A defect in taking over one client; the pairs stay."""

    def close(self) -> None:
        """Close all ends."""
        for index in list(self._ends):
            self._drop(index)
