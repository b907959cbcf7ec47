"""The access list of the benchmark: as many networks as the peers get, with all clients' addresses among them.

Contract: sorted, disjoint, the same each time. The clients' addresses stand one by one; the others are /24 of random places below
126.0.0.0, as block lists have them.
"""

import ipaddress
import random

from bench.load_generator import FIRST_SOURCE, SOURCES

COUNT = 100_000
_LAST_PREFIX = 126 << 16
"""Of /24 networks: those below 126.0.0.0."""


def networks(count: int = COUNT) -> list[str]:
    """See the module's contract."""
    chance = random.Random(0)  # noqa: S311  (no secret)
    prefixes = sorted(chance.sample(range(1 << 16, _LAST_PREFIX), count - SOURCES))
    others = [f"{ipaddress.IPv4Address(prefix << 8)}/24" for prefix in prefixes]
    return [*others, *clients()]


def clients() -> list[str]:
    """The load generator's addresses."""
    first = int(ipaddress.IPv4Address(FIRST_SOURCE))
    return [str(ipaddress.IPv4Address(first + number)) for number in range(SOURCES)]
