"""Whether clients' addresses are lost on their way to us: nearly all connections seem to come from one address, and it is the node's, the
gateway's, or a proxy's. Pure: time is an argument.

A proxy is told from a relay of one's own by its clients: a private address that says HELO by many names speaks for many. Hang-ups do not
count (probes of a kubelet or a balancer come from such addresses), nor do clients that the policy permits, unless from the node's address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from postwarden_sidecar.engine.record import Alike, Recorded, Verdict

BUCKET = 60.0  # seconds
WINDOW = 10  # buckets that are looked at
FEWEST = 100  # connections in the window; below that a single busy client is nothing unusual
NEARLY_ALL = 0.95  # share of them
NO_MORE = 0.8  # share below which the suspicion ends
MANY_NAMES = 10  # names in HELO; a mail server has one, a farm behind one address a few
MAX_ADDRESSES = 64  # private addresses that are counted; with more of them none has nearly all
# Whom no sender on the Internet is: RFC 1918, 6598 (balancers of some clouds), 3927, 4193, 4291.
_PRIVATE = [
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
] + [ipaddress.ip_network(network) for network in ("fc00::/7", "fe80::/10")]
# How their addresses begin, and a few others; to parse an address takes 20 us, and a flood comes from new ones.
_LIKE_PRIVATE = ("10.", "172.", "192.168.", "100.", "169.254.", "f")
_UNCOUNTED = (Verdict.HANGUP, Verdict.ERROR)


class Suspicion:
    """address: under suspicion, "" if there is none; detail: why, one sentence."""

    def __init__(self, nodes: Collection[str]) -> None:
        """nodes: addresses of the node and of gateways, from which no client comes that has not lost its own."""
        self.address = ""
        self.detail = ""
        self._nodes = frozenset(nodes)
        self._buckets: deque[tuple[float, Counter[str]]] = deque()
        self._names: dict[str, set[str]] = {}

    def observe(self, records: Iterable[Recorded], now: float) -> bool:
        """Connections have ended. now: CLOCK_MONOTONIC seconds. Returns whether `address` has changed."""
        if not self._buckets or now >= self._buckets[-1][0] + BUCKET:
            self._buckets.append((now, Counter()))
        counts, nodes, counted = self._buckets[-1][1], self._nodes, 0
        for verdict, address, name in _connections(records):
            if verdict in _UNCOUNTED:
                continue
            if verdict is Verdict.ALLOWLISTED and address not in nodes:
                continue
            counted += 1
            private = address.startswith(_LIKE_PRIVATE) and _private(address)
            if address in nodes or (private and self._named(address, name)):
                counts[address] += 1
        if counted:
            counts[""] += counted  # all
        while self._buckets[0][0] <= now - WINDOW * BUCKET:
            self._buckets.popleft()
        return self._decide()

    def _named(self, address: str, name: str) -> bool:
        """Note a client's name; whether there is room for its address."""
        names = self._names.get(address)
        if names is None:
            if len(self._names) >= MAX_ADDRESSES:
                return False
            names = self._names[address] = set()
        if name and len(names) < MANY_NAMES:
            names.add(name)
        return True

    def _decide(self) -> bool:
        if not self.address and all(bucket.keys() <= {""} for _, bucket in self._buckets):
            return False
        counts: Counter[str] = Counter()
        for _, bucket in self._buckets:
            counts.update(bucket)
        total = counts.pop("", 0)
        if total < FEWEST:
            return False
        before, (address, count) = self.address, (counts.most_common(1) or [("", 0)])[0]
        speaks_for_many = address in self._nodes or len(self._names.get(address, ())) >= MANY_NAMES
        if count >= NEARLY_ALL * total and speaks_for_many:
            whose = "the node's or the gateway's" if address in self._nodes else "a proxy's, it seems"
            self.address = address
            self.detail = (
                f"{count * 100 // total} % of the last {total} connections come from {address}, {whose}"
            )
        elif counts[before] < NO_MORE * total:
            self.address = self.detail = ""
        return self.address != before


def _connections(recorded: Iterable[Recorded]) -> Iterator[tuple[Verdict, str, str]]:
    """Verdict, client's address and name in HELO of each."""
    for each in recorded:
        if isinstance(each, Alike):
            verdict, name = each.template.verdict, each.template.helo
            for visit in each.visits:
                yield verdict, visit.address, name
        else:
            yield each.verdict, each.client_address, each.helo


@lru_cache(4096)
def _private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _PRIVATE if network.version == parsed.version)


def gateways(route: str) -> frozenset[str]:
    """The default gateways in the text of /proc/net/route (proc(5): hexadecimal, in the machine's little-endian order)."""
    found = set()
    for line in route.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and fields[2] != "00000000":
            found.add(str(ipaddress.IPv4Address(bytes.fromhex(fields[2])[::-1])))
    return frozenset(found)
