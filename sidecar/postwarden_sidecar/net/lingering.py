"""Before a close where input is known to wait: it is discarded, so that the client gets reply and FIN, not RST."""

from __future__ import annotations

import socket
from contextlib import suppress

LINGER_DISCARD = 64 * 1024  # bytes discarded before a close (design)
_discarded = bytearray(LINGER_DISCARD)  # nobody reads it


def discard_input(client: socket.SocketType) -> None:
    """Take what waits now, LINGER_DISCARD at most. A short read is no proof that nothing more waits."""
    with suppress(OSError):  # nothing more waits
        left = LINGER_DISCARD
        while left > 0 and (count := client.recv_into(_discarded, left, socket.MSG_DONTWAIT)):
            left -= count
