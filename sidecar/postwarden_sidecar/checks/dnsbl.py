"""DNS block and allow lists: what their answers add up to.

Every site (a zone with a filter) whose filter has one of the zone's answers adds its weight once. A zone without a usable answer adds
nothing: an error never counts against a client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite, Rules

TEST = "dnsbl"


class Answer(Protocol):
    """addresses: four octets each, those that count; empty: not listed. ttl: seconds. failed: there was no usable answer."""

    @property
    def addresses(self) -> tuple[bytes, ...]: ...

    @property
    def ttl(self) -> float: ...

    @property
    def failed(self) -> bool: ...


class Score(NamedTuple):
    """total: sum of the weights. label: of the match with the largest weight, "" if there is none. ttl: seconds that a pass lasts."""

    total: int
    label: str
    ttl: float


def enabled(rules: Rules) -> bool:
    """No sites turn the test off."""
    return bool(rules.dnsbl.sites)


def zones(dnsbl: Dnsbl) -> frozenset[str]:
    """The zones that are asked, each once whatever the number of its filters. Remembered for the last settings: all clients that wait
    share one set."""
    global _remembered
    settings, found = _remembered
    if settings is not dnsbl:
        found = frozenset([site.zone for site in dnsbl.sites])
        _remembered = dnsbl, found
    return found


_remembered: tuple[Dnsbl | None, frozenset[str]] = (None, frozenset())


def score(dnsbl: Dnsbl, answers: Mapping[str, Answer]) -> Score:
    """The score of the usable ones among the answers so far, by zone.

    The pass's time is postscreen's (measured): with a score above 0 positive weights that were answered and negative ones that were
    not set it, otherwise the reverse; the shortest counts, within the policy's bounds; its least where none was answered.
    """
    total = 0
    best: DnsblSite | None = None
    failing: list[float] = []
    passing: list[float] = []
    for site in dnsbl.sites:
        answer = answers.get(site.zone)
        if answer is None or answer.failed:
            continue
        if answer.addresses and (site.replies is None or _matches(site.replies, answer.addresses)):
            total += site.weight
            if best is None or site.weight > best.weight:
                best = site
        (failing if bool(answer.addresses) == (site.weight > 0) else passing).append(answer.ttl)
    ttl = min(failing if total > 0 else passing, default=dnsbl.ttl_min)
    return Score(total, "" if best is None else best.label, min(max(ttl, dnsbl.ttl_min), dnsbl.ttl_max))


def allows(dnsbl: Dnsbl, total: int) -> bool:
    """The score is good enough to pass all other tests, too."""
    return dnsbl.allow_threshold < 0 and total < dnsbl.threshold and total <= dnsbl.allow_threshold


def _matches(filters: Sequence[frozenset[int]], addresses: Sequence[bytes]) -> bool:
    """One of the addresses has an allowed value in each octet."""
    return any(
        all(octet in allowed for octet, allowed in zip(address, filters, strict=True))
        for address in addresses
    )
