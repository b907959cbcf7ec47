"""What the checks know of a client."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

NO_PASSES: Mapping[str, float] = MappingProxyType({})


class Facts:
    """A client, as far as it is known by now; the engine adds to it as time goes on.

    address: text without brackets or zone; packed: the same in network order (4 or 16 bytes). Never v4-mapped.
    passes: test -> epoch seconds when its pass ends, as the store said. said: what waited to be read before the greeting was
    complete. waited: the greeting's wait is over.
    """

    __slots__ = ("address", "passes", "said", "waited")

    def __init__(self, address: str) -> None:
        """Raises ValueError if address is no IP address."""
        self.address = normalise(address)[0]
        self.passes = NO_PASSES
        self.said = b""
        self.waited = False

    @property
    def packed(self) -> bytes:
        """Not kept: 48 bytes of each client that waits."""
        return normalise(self.address)[1]


# Of a connection: its client's twice, and our own address, which is the same for all.
@lru_cache(maxsize=256)
def normalise(address: str) -> tuple[str, bytes]:
    """An address's usual text and its bytes in network order; a v4-mapped one becomes IPv4, a zone is left out.

    Raises ValueError. `ipaddress` takes microseconds, so IPv4 has a way of its own.
    """
    parts = address.split(".")
    if len(parts) == 4 and ":" not in address:
        packed = bytes(map(int, parts))
        first, second, third, fourth = packed
        if f"{first}.{second}.{third}.{fourth}" != address:
            raise ValueError(f"{address!r} is no usual form of an IPv4 address")
        return address, packed
    v6 = ipaddress.IPv6Address(address.partition("%")[0])
    mapped = v6.ipv4_mapped
    if mapped is not None:
        return str(mapped), mapped.packed
    packed = v6.packed
    if not any(packed[:12]) and any(
        packed[12:14]
    ):  # as inet_ntop has it, which names the other end of a socket
        return "::" + ".".join(map(str, packed[12:])), packed
    return str(v6), packed
