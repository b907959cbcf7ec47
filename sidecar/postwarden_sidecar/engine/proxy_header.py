"""The PROXY protocol's header from a trusted proxy, versions 1 and 2 (haproxy's proxy-protocol.txt), read as it comes in.

Accepted are TCP over IPv4 and IPv6, and version 2's LOCAL (the proxy itself). UNKNOWN, UNSPEC, UNIX and UDP are refused, as
postscreen does: they name no client to screen. Unlike postscreen we read on if a header comes in pieces: its size is bounded here,
the time by the connection.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from postwarden_sidecar.checks.facts import normalise

MAX_V1 = 107  # bytes of a version 1 header with its CRLF (proxy-protocol.txt, 2.1)
MAX_V2_LENGTH = 520  # bytes behind the fixed 16, as Postfix; addresses take 36, the fields that balancers add some hundred
MAX_COMPLAINT = 120  # characters that we repeat of what is wrong with an address; two whole addresses fit
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2 (proxy-protocol.txt, 2.2)
_FIXED = 16  # bytes of version 2's fixed part
_V1 = b"PROXY "
_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


class BadHeader(ValueError):
    """The bytes are no header that we accept; the message says why in one sentence."""


class Announced(NamedTuple):
    """Whom the proxy speaks for; addresses normalised. A client of one family can come with a server address of the other."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int


class HeaderParser:
    """Takes what waits in the socket until the header is whole.

    complete: the header is whole. announced: None after LOCAL, and while it is not whole.
    """

    __slots__ = ("_buffer", "announced", "complete")

    def __init__(self, announced: Announced | None = None) -> None:
        """announced: by a header that was read before."""
        self._buffer = b""
        self.complete = announced is not None
        self.announced = announced

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return len(self._buffer)

    @property
    def is_local(self) -> bool:
        """The proxy speaks for itself."""
        return self.complete and self.announced is None

    def receive(self, data: bytes) -> int:
        """How many bytes at the start of data are the header's; all of them while it is not whole. Raises BadHeader."""
        before = len(self._buffer)
        # No more than the largest header is looked at, however much waits.
        seen = self._buffer + data[: _FIXED + MAX_V2_LENGTH]
        if seen.startswith(_V1[: len(seen)]):
            size = self._receive_v1(seen)
        elif seen.startswith(_SIGNATURE[: len(seen)]):
            size = self._receive_v2(seen)
        else:
            raise BadHeader("its first bytes are no PROXY header")
        self._buffer = seen[:size]
        return size - before

    def _receive_v1(self, seen: bytes) -> int:
        end = seen.find(b"\n", 0, MAX_V1)
        if end < 0:
            if len(seen) >= MAX_V1:
                raise BadHeader(f"its PROXY header has no line end within {MAX_V1} bytes")
            return len(seen)
        self.announced = _parse_v1(seen[:end].removesuffix(b"\r"))
        self.complete = True
        return end + 1

    def _receive_v2(self, seen: bytes) -> int:
        if len(seen) < _FIXED:
            return len(seen)
        length = int.from_bytes(seen[14:16], "big")
        if length > MAX_V2_LENGTH:
            raise BadHeader(f"its PROXY header announces {length} bytes, more than {MAX_V2_LENGTH}")
        command, family = seen[12], seen[13]
        if command == 0x21:
            width = {0x11: 4, 0x21: 16}.get(family)
            if width is None:
                raise BadHeader(
                    f"its PROXY header is for family and protocol 0x{family:02x}, not TCP over IP"
                )
            if length < 2 * width + 4:
                raise BadHeader(f"its PROXY header announces {length} bytes, too few for its addresses")
        elif command != 0x20:
            raise BadHeader(f"its PROXY header has version and command 0x{command:02x}")
        size = _FIXED + length
        if len(seen) < size:
            return len(seen)
        if command == 0x21:
            self.announced = _parse_v2(seen[_FIXED:size], 4 if family == 0x11 else 16)
        self.complete = True
        return size


def _parse_v1(line: bytes) -> Announced:
    # As Postfix: several blanks are one, TCP4 in any case, and what comes behind the ports is left alone.
    words = [word for word in line.decode("latin-1").replace("\r", " ").split(" ") if word]
    family: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]
    match [word.upper() for word in words[1:2]] + words[2:6]:
        case ["TCP4", client, server, client_port, server_port]:
            family = ipaddress.IPv4Address
        case ["TCP6", client, server, client_port, server_port]:
            family = ipaddress.IPv6Address
        case _:
            raise BadHeader("its PROXY header is not `PROXY TCP4|TCP6 CLIENT SERVER PORT PORT`")
    try:
        if "%" in client + server:
            raise ValueError("an address has a zone")
        client, server = str(family(client)), str(family(server))
    except ValueError as error:
        raise BadHeader(f"its PROXY header has a bad address: {str(error)[:MAX_COMPLAINT]}") from error
    return Announced(normalise(client)[0], _port(client_port), normalise(server)[0], _port(server_port))


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise BadHeader("its PROXY header has a bad port")
    return int(text)


def _parse_v2(body: bytes, width: int) -> Announced:
    family = ipaddress.IPv4Address if width == 4 else ipaddress.IPv6Address
    ports = body[2 * width : 2 * width + 4]
    return Announced(
        normalise(str(family(body[:width])))[0],
        int.from_bytes(ports[:2], "big"),
        normalise(str(family(body[width : 2 * width])))[0],
        int.from_bytes(ports[2:], "big"),
    )
