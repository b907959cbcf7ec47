"""The control pair: messages of `ipc.messages` in both directions, none dropped.

Nothing here blocks. What the socket does not take now waits in a bounded queue; the owner watches `fileno()`
for input always and for output while `wants_write`. A full queue is an exception and no silent loss: the
sender knows what the message was worth.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence

import msgspec

from postwarden_sidecar.ipc.messages import MAX_MESSAGE, ToSupervisor, ToWorker
from postwarden_sidecar.ipc.pair import ChannelFault, close_all, prepare, receive_packet, send_packet

# messages that wait for the socket; about 100 fit its own buffer, so a reader this far behind is stuck
MAX_QUEUED = 1024

Message = ToWorker | ToSupervisor

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class ChannelFull(Exception):
    """MAX_QUEUED messages wait already; this one was not taken."""


class Channel:
    """One end of the control pair."""

    def __init__(self, end: socket.socket) -> None:
        """Take over the end (its flags and its closing)."""
        prepare(end)
        self._end = end
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()

    def fileno(self) -> int:
        """For the event loop."""
        return self._end.fileno()

    @property
    def wants_write(self) -> bool:
        """Messages wait: call `flush` when the socket takes output."""
        return bool(self._queue)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send, or queue, a message. The descriptors stay the caller's, who may close them at once.

        Raises ChannelFull, ChannelClosed, ValueError for a message above MAX_MESSAGE.
        """
        packet = _encoder.encode(message)
        if len(packet) > MAX_MESSAGE:
            raise ValueError(f"a {type(message).__name__} of {len(packet)} bytes is above {MAX_MESSAGE}")
        if not self._queue and send_packet(self._end, packet, descriptors):
            return
        if len(self._queue) >= MAX_QUEUED:
            raise ChannelFull
        self._queue.append((packet, tuple(os.dup(descriptor) for descriptor in descriptors)))

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it. Raises ChannelClosed."""
        while self._queue:
            packet, descriptors = self._queue[0]
            if not send_packet(self._end, packet, descriptors):
                return
            self._queue.popleft()
            close_all(descriptors)

    def receive(self) -> tuple[Message, tuple[int, ...]] | None:
        """The next message and its descriptors (the caller's to close); None if none waits.

        Raises ChannelClosed at the end, ChannelFault for what is no message.
        """
        received = receive_packet(self._end)
        if received is None:
            return None
        packet, descriptors = received
        try:
            return _decoder.decode(packet), descriptors
        except msgspec.DecodeError as error:  # ValidationError too
            close_all(descriptors)
            raise ChannelFault(f"no control message: {error}") from error

    def close(self) -> None:
        """Close the end and drop what waits."""
        for _, descriptors in self._queue:
            close_all(descriptors)
        self._queue.clear()
        self._end.close()
