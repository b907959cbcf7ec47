"""Addresses as people write them, and as the kernel gives them.

`HOST:PORT`, `[V6]:PORT` and `unix:PATH` become what a socket takes. v4-mapped v6 addresses (a v4 client of a
dual-stack socket) become v4, so that one client has one name everywhere.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

MAX_UNIX_PATH = 107  # bytes; sun_path of unix(7) less the NUL


class BadAddress(ValueError):
    """The text is no address of the wanted form; the message says what is wrong in one sentence."""


@dataclass(frozen=True, slots=True)
class TcpTarget:
    """host: an address or a name."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixTarget:
    """path: of a listening stream socket."""

    path: str


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """For connect(2)."""

    family: socket.AddressFamily
    address: tuple[str, int] | str

    def __str__(self) -> str:
        """As parse_target reads it."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        return host_port(*self.address)


def host_port(host: str, port: int) -> str:
    """As parse_target reads it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine (or pod) reaches it; a name other than localhost, or no host, may be anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_target(text: str) -> TcpTarget | UnixTarget:
    """`HOST:PORT`, `[V6]:PORT` or `unix:PATH`. Raises BadAddress."""
    if text.startswith("unix:"):
        path = text[5:]
        if not path or "\0" in path:
            raise BadAddress(f"{text!r} names no socket: write unix:/PATH")
        if len(path.encode()) > MAX_UNIX_PATH:
            raise BadAddress(f"the path of a unix socket has at most {MAX_UNIX_PATH} bytes: {text!r}")
        return UnixTarget(path)
    host, port = parse_host_port(text)
    if not host or port == 0:
        raise BadAddress(f"{text!r} is no target: write HOST:PORT, [V6]:PORT or unix:/PATH")
    return TcpTarget(host, port)


def parse_host_port(text: str) -> tuple[str, int]:
    """(host without brackets, port). The host may be empty (all addresses), the port 0 (any). Raises
    BadAddress."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_v6(host):
            raise BadAddress(f"{text!r} has no IPv6 address in its brackets")
    elif ":" in host:
        raise BadAddress(f"{text!r} is ambiguous: write an IPv6 address in brackets, [V6]:PORT")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadAddress(f"{text!r} has no port from 0 to 65535 at its end: write HOST:PORT")
    return host, int(port)


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_literal(text: str) -> bool:
    """HOST:PORT whose host is an address, so that nothing is to be looked up."""
    try:
        ipaddress.ip_address(parse_host_port(text)[0])
    except ValueError:
        return False
    return True


def normalise(address: str) -> str:
    """An address as the kernel gives it, without zone, v4-mapped ones as v4."""
    if ":" not in address:
        return address
    bare = address.partition("%")[0]
    if bare.startswith("::ffff:") and "." in bare:
        return bare[7:]
    parsed = ipaddress.IPv6Address(bare)
    return str(parsed.ipv4_mapped or parsed)


def pack(address: str) -> bytes:
    """A normalised address in network order: 4 or 16 bytes."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return socket.inet_aton(address)


def socket_name(owned: socket.SocketType) -> tuple[str, int]:
    """The socket's own address, normalised. Raises OSError."""
    host, port = owned.getsockname()[:2]
    return normalise(host), port


def resolve(target: TcpTarget | UnixTarget) -> tuple[SocketAddress, ...]:
    """What to connect to, in this order until one accepts. A name is looked up, which may block: give addresses where that matters.

    Raises BadAddress.
    """
    if isinstance(target, UnixTarget):
        return (SocketAddress(socket.AF_UNIX, target.path),)
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadAddress(f"the host {target.host!r} cannot be resolved: {error}") from error
    return tuple(
        SocketAddress(family, (str(address[0]), int(address[1]))) for family, _, _, _, address in found
    )
