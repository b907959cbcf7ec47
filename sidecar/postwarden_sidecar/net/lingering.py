"""Before a close where input is known to wait: it is discarded, so that the client gets reply and FIN, not RST."""

from __future__ import annotations

import socket
from contextlib import suppress

LINGER_DISCARD = 64 * 1024  # bytes discarded before a close (design)
_discarded = bytearray(LINGER_DISCARD)  # nobody reads it


def discard_input(client: socket.SocketType) -> None:
    """Take what waits now, LINGER_DISCARD at most: one read has it all, and a second would only say so."""
    with suppress(OSError):  # nothing waits
        client.recv_into(_discarded, LINGER_DISCARD, socket.MSG_DONTWAIT)
