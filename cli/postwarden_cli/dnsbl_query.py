"""Really asks the block lists of a policy about one address, by the look-ups of the sidecar's workers, and adds up what they say.

Zones are shown as the policy has them: a key of a Secret in their place is shown to nobody. A list that has the address is asked for its
test entries too, as a sidecar does: one that lists the world, or refuses its resolver, counts for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from postwarden_sidecar.checks import dnsbl
from postwarden_sidecar.checks.dnsbl import Answer
from postwarden_sidecar.dns.outcome import Finding, Outcome
from postwarden_sidecar.dns.zone_health import ZoneState
from postwarden_sidecar.net.addresses import BadAddress, SocketAddress, TcpTarget, parse_host_port, resolve
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dnsbl import DnsblClient
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite
from postwarden_sidecar.supervisor.dnsbl_probes import probe_zone
from postwarden_sidecar.supervisor.resolvers import RESOLV_CONF, read_nameservers

DESCRIPTORS = 256  # far more than the sockets of one address's look-ups
GRACE = 1.0  # seconds beyond the policy's time limit; every look-up has ended by then


@dataclass(frozen=True, slots=True)
class SiteResult:
    """One entry of dnsbl.sites. answer: addresses, or why there is none. counts: its weight is in the score. usable: the zone gave an
    answer that can be believed."""

    zone: str
    label: str
    weight: int
    answer: str
    counts: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class QueryResult:
    """sites: in the policy's order. failing: the score is enough for the policy's action. allowed: it is good enough to spare all other
    tests."""

    sites: tuple[SiteResult, ...]
    score: int
    failing: bool
    allowed: bool

    @property
    def complete(self) -> bool:
        """Every zone gave an answer that can be believed."""
        return all(site.usable for site in self.sites)


def query(settings: Dnsbl, address: str, resolv_conf: Path = RESOLV_CONF) -> QueryResult:
    """Ask all zones about address (normalised); takes the policy's time limit at most, and a probe's for zones that list it."""
    texts = settings.resolvers or read_nameservers(resolv_conf)
    resolvers = tuple(found for text in texts for found in _addresses(text))
    findings = _look_up(settings, address, resolvers)
    refused = asyncio.run(_unwell([zone for zone, found in findings.items() if found.addresses], resolvers))
    answers = {zone: found for zone, found in findings.items() if not found.failed and zone not in refused}
    total = dnsbl.score(settings, answers).total
    return QueryResult(
        tuple(_site(site, findings[site.zone], refused, answers) for site in settings.sites),
        total,
        total >= settings.threshold,
        dnsbl.allows(settings, total),
    )


def _addresses(text: str) -> tuple[SocketAddress, ...]:
    """None for a name that can't be looked up: the others are asked."""
    try:
        return resolve(TcpTarget(*parse_host_port(text)))
    except (BadAddress, OSError):
        return ()


def _look_up(settings: Dnsbl, address: str, resolvers: Sequence[SocketAddress]) -> dict[str, Finding]:
    loop = Loop()
    client = DnsblClient(loop, Descriptors(DESCRIPTORS), lambda zone, outcome, seconds: None)
    zones = sorted(dnsbl.zones(settings))
    findings: dict[str, Finding] = {}
    loop.now = time.monotonic()
    give_up = loop.now + settings.timeout + GRACE

    def answered(zone: str, finding: Finding, start: float, end: float) -> None:
        findings[zone] = finding

    try:
        client.panel(zones, resolvers, settings.timeout).query(address, answered)
        while len(findings) < len(zones) and time.monotonic() < give_up:
            loop.turn()
    finally:
        client.close()
        loop.wake()
        loop.turn()
        loop.release()
    return {zone: findings.get(zone, Finding(Outcome.TIMEOUT)) for zone in zones}


async def _unwell(zones: Sequence[str], resolvers: Sequence[SocketAddress]) -> dict[str, str]:
    """Of zones that list the address those that count for nothing, and why."""
    probes = await asyncio.gather(*(probe_zone(zone, tuple(map(str, resolvers))) for zone in zones))
    return {
        zone: f"{probe.state.value}: {probe.detail}"
        for zone, probe in zip(zones, probes, strict=True)
        if probe.state is not ZoneState.HEALTHY
    }


_WORDS = {
    Outcome.NOT_LISTED: "not listed",
    Outcome.BLOCKED: "Blocked: the list refuses the resolver, or the resolver makes answers up",
    Outcome.TIMEOUT: "no answer in time",
    Outcome.UNREACHABLE: "no resolver can be reached",
    Outcome.ERROR: "no usable answer of any resolver",
}


def _site(
    site: DnsblSite, found: Finding, refused: Mapping[str, str], answers: Mapping[str, Answer]
) -> SiteResult:
    listed = ", ".join(".".join(map(str, address)) for address in found.addresses)
    answer = listed or _WORDS.get(found.outcome, found.outcome.value)
    if site.zone in refused:
        answer = f"{listed}, but counts for nothing, {refused[site.zone]}"
    mine = Dnsbl(sites=(site,))
    usable = site.zone in answers
    counts = usable and dnsbl.score(mine, {site.zone: answers[site.zone]}).label != ""
    return SiteResult(site.template, site.label, site.weight, answer, counts, usable)
