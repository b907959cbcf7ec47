"""Before a close where input is known to wait: it is discarded, so that the client gets reply and FIN, not RST."""

from __future__ import annotations

import socket

LINGER_DISCARD = 64 * 1024  # bytes discarded before a close (design)
_discarded = bytearray(LINGER_DISCARD)  # nobody reads it


def discard_input(client: socket.socket) -> None:
    """Take what waits now, LINGER_DISCARD at most."""
    left = LINGER_DISCARD
    try:
        while left > 0 and (count := client.recv_into(_discarded, left, socket.MSG_DONTWAIT)):
            left -= count
    except OSError:
        pass  # nothing more waits
