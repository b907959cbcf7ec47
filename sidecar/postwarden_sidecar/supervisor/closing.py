"""The end of the listening sockets: whoever is queued gets a reply first.

Closing a socket resets the clients that wait in its queue (measured); a reset tells a sender nothing, `421`
tells it to come again.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

_REPLY = b"421 4.3.2 Service not available, closing transmission channel\r\n"
_MOST = 4096  # clients turned away by a socket: net.core.somaxconn, the longest queue there is


def close_when_empty(listeners: Sequence[socket.socket]) -> None:
    """Answer 421 to all who wait, then close. No worker may use the sockets any more."""
    for listener in listeners:
        for _ in range(_MOST):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError:  # a client that went away meanwhile
                continue
            with client, contextlib.suppress(OSError):
                client.setblocking(False)
                client.send(_REPLY, socket.MSG_NOSIGNAL)
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)  # else what it said already would make the close a reset
        listener.close()
