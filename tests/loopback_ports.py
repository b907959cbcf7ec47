"""Ports of 127.0.0.1 that nobody used a moment ago, for programs that must be told theirs before they start."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_port() -> int:
    """One."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """All different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(taken.getsockname()[1]) for taken in sockets]
