"""Headers of the PROXY protocol as a sender writes them (proxy-protocol.txt of HAProxy, versions 1 and 2).

Both addresses of a header are of one family: v4-mapped v6 addresses become v4 first, and a pair that is mixed
even then (a proxy may announce a v4 client of a v6 server) is written as v6, the v4 one mapped. Pure: bytes
out, no socket.
"""

from __future__ import annotations

import ipaddress
import struct

SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"  # section 2.2
_LOCAL = 0x20  # version 2, command LOCAL
_PROXY = 0x21  # version 2, command PROXY
_TCP4 = 0x11  # AF_INET, STREAM
_TCP6 = 0x21  # AF_INET6, STREAM

_Pair = (
    tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | tuple[ipaddress.IPv6Address, ipaddress.IPv6Address]
)


def _pair(source: str, destination: str) -> _Pair:
    first, second = (
        _unmapped(ipaddress.ip_address(text.partition("%")[0])) for text in (source, destination)
    )
    if isinstance(first, ipaddress.IPv4Address) and isinstance(second, ipaddress.IPv4Address):
        return first, second
    return _mapped(first), _mapped(second)


def _unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


def encode_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """The text header (section 2.1), `TCP4` or `TCP6`. Raises ValueError if an address is none."""
    pair = _pair(source, destination)
    family = "TCP4" if isinstance(pair[0], ipaddress.IPv4Address) else "TCP6"
    return f"PROXY {family} {pair[0]} {pair[1]} {source_port} {destination_port}\r\n".encode("ascii")


def encode_v2(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """The binary header (section 2.2), command PROXY, no TLVs. Raises ValueError if an address is none."""
    pair = _pair(source, destination)
    family = _TCP4 if isinstance(pair[0], ipaddress.IPv4Address) else _TCP6
    block = pair[0].packed + pair[1].packed + struct.pack("!HH", source_port, destination_port)
    return SIGNATURE_V2 + struct.pack("!BBH", _PROXY, family, len(block)) + block


def encode_v2_local() -> bytes:
    """The binary header of a connection that the sender makes for itself (health checks): no addresses."""
    return SIGNATURE_V2 + struct.pack("!BBH", _LOCAL, 0, 0)
