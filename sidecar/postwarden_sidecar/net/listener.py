"""Listening sockets: one port, N sockets of a SO_REUSEPORT group, each worker with its own.

The supervisor binds and keeps them, so that a crashed worker loses no waiting client. Before the group is
opened, a bind with SO_REUSEADDR and without SO_REUSEPORT proves that no one else listens: with the second,
another process binds without error; without the first, TIME_WAIT fails it after a restart (both measured).

An empty host listens on all addresses, v6 and v4, by one dual-stack socket (v4 alone where the kernel has no
v6); `0.0.0.0` is v4 only, `[::]` v6 only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from postwarden_sidecar.net.addresses import host_port, socket_name

BACKLOG = 1024  # clients that wait for accept in each socket; the kernel caps it at net.core.somaxconn [4096]


class ListenError(Exception):
    """The address can't be listened on; the message says which, why and what to do, in one sentence."""


# Attaches to a group what picks the worker of a client (`net.steering`); not needed with one socket. Raises OSError.
Attach = Callable[[Sequence[socket.socket]], None]


def listen(host: str, port: int, count: int, *, attach: Attach | None = None) -> list[socket.socket]:
    """Count listening sockets of one address, non-blocking, closed on exec unless passed on. Port 0: the
    kernel picks one for all. If the steering can't be attached, there is one socket only: a client whose connections reach several
    workers would be counted wrongly. Raises ListenError."""
    family, dual, address = _family(host)
    shown = host_port(address, port)
    sockets: list[socket.socket] = []
    try:
        with _bound(family, dual, address, port, group=False) as proof:
            port = proof.getsockname()[1]
        for _ in range(count):
            sockets.append(_bound(family, dual, address, port, group=True))
        if attach is not None and count > 1:
            try:
                attach(sockets)  # before anyone listens, so that no client is on a socket that goes again
            except OSError:
                for member in sockets[1:]:
                    member.close()
                del sockets[1:]
        for member in sockets:
            member.listen(BACKLOG)
    except OSError as error:
        for member in sockets:
            member.close()
        raise ListenError(_explain(shown, error)) from error
    return sockets


class Listener(NamedTuple):
    """A listening socket, and what its clients have in common: asked once, for it took 4 us of each batch. name: what every client
    connects to; None if it listens on all addresses, so that each client's socket is to be asked."""

    owned: socket.socket
    family: int
    kind: int
    name: tuple[str, int] | None


def described(owned: socket.socket) -> Listener:
    """Of a socket that listens."""
    host, port = socket_name(owned)
    name = None if host in ("0.0.0.0", "::") else (host, port)
    return Listener(owned, owned.family, owned.type, name)


def _family(host: str) -> tuple[socket.AddressFamily, bool, str]:
    if host == "":
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, True, "::"
        return socket.AF_INET, False, "0.0.0.0"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"cannot listen on {host}: the name cannot be resolved ({error})") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, False, str(address[0])


def _bound(
    family: socket.AddressFamily, dual: bool, address: str, port: int, *, group: bool
) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if group:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def _explain(shown: str, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"cannot listen on {shown}: another process listens there; stop it or choose another port"
        case errno.EACCES:
            return f"cannot listen on {shown}: ports below 1024 need the capability NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {shown}: this machine has no such address"
        case _:
            return f"cannot listen on {shown}: {error.strerror}"
