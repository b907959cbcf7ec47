"""What a reply of a list means: listed, not listed, or no usable answer.

A list says 'listed' by an address in 127.0.0.0/8 (RFC 5782). Others come from resolvers that answer for names that do not exist;
127.255.255.0/24 is how lists say that they refuse the resolver (blocked, over quota). Neither may ever score.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

from postwarden_sidecar.dns.message import NOERROR, NXDOMAIN, Reply


class Outcome(enum.StrEnum):
    """Of one look-up, as metrics and traces show it."""

    LISTED = "listed"
    NOT_LISTED = "not_listed"
    BLOCKED = "blocked"  # an answer that is no listing: the list refuses us, or the resolver makes answers up
    TIMEOUT = "timeout"  # nobody has answered in time
    UNREACHABLE = "unreachable"  # no resolver could be asked
    ERROR = "error"  # SERVFAIL, REFUSED and their like, or a reply that can't be read
    UNPROBED = "unprobed"  # listed, but whether the zone lists the world could not be seen in time
    LISTS_WORLD = "lists_world"  # listed, in a zone that lists the world


# Of a look-up itself; the others are added by who knows how the zone is doing.
NETWORK_OUTCOMES = (
    Outcome.LISTED,
    Outcome.NOT_LISTED,
    Outcome.BLOCKED,
    Outcome.TIMEOUT,
    Outcome.UNREACHABLE,
    Outcome.ERROR,
)


_USABLE = (Outcome.LISTED, Outcome.NOT_LISTED)


class Finding(NamedTuple):
    """addresses: the listing's, four octets each. ttl: seconds; 0 where the answer says none."""

    outcome: Outcome
    addresses: tuple[bytes, ...] = ()
    ttl: float = 0.0

    @property
    def failed(self) -> bool:
        """It scores nothing and sets no TTL."""
        return self.outcome not in _USABLE


@lru_cache(maxsize=1024)  # as many as `message` remembers
def judge(reply: Reply) -> Finding:
    """reply: not truncated."""
    if reply.rcode not in (NOERROR, NXDOMAIN):
        return Finding(Outcome.ERROR)
    ttl = float(reply.ttl or 0)
    if not reply.addresses:
        return Finding(Outcome.NOT_LISTED, (), ttl)
    for address in reply.addresses:
        if not is_listing(address):
            return Finding(Outcome.BLOCKED)
    return Finding(Outcome.LISTED, reply.addresses, ttl)


def is_listing(address: bytes) -> bool:
    """Whether four octets say 'listed'."""
    return address[0] == 127 and address[1:3] != b"\xff\xff"
