"""Headers of the PROXY protocol as a sender writes them (proxy-protocol.txt of HAProxy, versions 1 and 2).

Both addresses of a header are of one family: v4-mapped v6 addresses become v4 first, and a pair that is mixed
even then (a proxy may announce a v4 client of a v6 server) is written as v6, the v4 one mapped. Pure: bytes
out, no socket.
"""

from __future__ import annotations

import ipaddress
import struct

from postwarden_sidecar.checks.facts import normalise

SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"  # section 2.2
# version 2 and its command, the family with STREAM, bytes that follow
_LOCAL = b"\x20\x00\x00\x00"
_PROXY_TCP4 = b"\x21\x11\x00\x0c"
_PROXY_TCP6 = b"\x21\x21\x00\x24"


def _pair(source: str, destination: str) -> tuple[bytes, bytes]:
    """Both in network order, of one length."""
    first, second = normalise(source)[1], normalise(destination)[1]
    return (first, second) if len(first) == len(second) else (_mapped(first), _mapped(second))


def _mapped(address: bytes) -> bytes:
    return address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address


def encode_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """The text header (section 2.1), `TCP4` or `TCP6`. Raises ValueError if an address is none."""
    first, second = map(ipaddress.ip_address, _pair(source, destination))
    return f"PROXY TCP{first.version} {first} {second} {source_port} {destination_port}\r\n".encode("ascii")


def encode_v2(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """The binary header (section 2.2), command PROXY, no TLVs. Raises ValueError if an address is none."""
    first, second = _pair(source, destination)
    start = _PROXY_TCP4 if len(first) == 4 else _PROXY_TCP6
    return SIGNATURE_V2 + start + first + second + struct.pack("!HH", source_port, destination_port)


def encode_v2_local() -> bytes:
    """The binary header of a connection that the sender makes for itself (health checks): no addresses."""
    return SIGNATURE_V2 + _LOCAL
