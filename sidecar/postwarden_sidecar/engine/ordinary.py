"""Clients that no rule names: what is decided of them hangs on their passes and on what they do.

Contract: of an ordinary client `connection.Connection` asks the passes of its address, and decides by them and nothing else of who it is.
"""

from __future__ import annotations

from postwarden_sidecar.checks import access, prefix
from postwarden_sidecar.rules.settings import Rules


def is_ordinary(rules: Rules, suspect: str, address: str, packed: bytes) -> bool:
    """Whether the client is no proxy, on no access list, not under suspicion (`Context.suspect`), and has passes of its own. address,
    packed: as in Facts."""
    cache = rules.cache
    return (
        address != suspect
        and rules.proxy_trusted.lookup(packed) is None
        and access.find(rules.access, packed) is None
        and prefix.key(address, packed, cache.prefix_ipv4, cache.prefix_ipv6) == address
    )
