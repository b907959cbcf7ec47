"""Whether somebody listens at a port, seen without a connection: the server would count it."""

from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""


def parse_listeners(text: str) -> set[int]:
    """The IPv4 ports of /proc/net/tcp that are listened at."""
    fields = [line.split() for line in text.splitlines()[1:]]
    return {int(each[1].partition(":")[2], 16) for each in fields if each[3] == _LISTEN}


def listens(port: int) -> bool:
    """Of any IPv4 address of this machine."""
    return port in parse_listeners(Path("/proc/net/tcp").read_text())
