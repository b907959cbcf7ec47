"""Before a close where input is known to wait: it is discarded, so that the client gets reply and FIN, not RST."""

from __future__ import annotations

import fcntl
import socket
import termios

LINGER_DISCARD = 64 * 1024  # bytes discarded before a close (design)
_discarded = bytearray(LINGER_DISCARD)  # nobody reads it
_NOTHING = bytes(4)  # an int


def _input_waits(client: socket.SocketType) -> bool:
    """Whether bytes are there to be read. Asked for their number, and not by a read: its exception costs five times as much. Raises
    OSError."""
    return fcntl.ioctl(client.fileno(), termios.FIONREAD, _NOTHING) != _NOTHING


def discard_input(client: socket.SocketType) -> None:
    """Take what waits now, LINGER_DISCARD at most. A short read is no proof that nothing more waits."""
    left = LINGER_DISCARD
    try:
        while left > 0 and _input_waits(client):
            left -= client.recv_into(_discarded, left, socket.MSG_DONTWAIT) or left
    except OSError:  # the client is gone
        return
