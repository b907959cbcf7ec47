"""Which clients count as one: addresses with a common prefix, for passes (provider pools, an IPv6 site's /64) and for limits."""

from __future__ import annotations

import ipaddress


def key(address: str, packed: bytes, ipv4: int, ipv6: int) -> str:
    """The client's address, or its network where the prefix (bits) is shorter than an address: `192.0.2.0/24`. packed: the address in
    network order."""
    whole = len(packed) * 8
    bits = ipv4 if whole == 32 else ipv6
    if bits >= whole:
        return address
    host = whole - bits
    network = (int.from_bytes(packed, "big") >> host << host).to_bytes(len(packed), "big")
    return f"{ipaddress.ip_address(network)}/{bits}"
