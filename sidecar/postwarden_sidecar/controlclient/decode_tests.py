"""From the wire to the settings of the tests: lists in the DNS, and what comes after the greeting. Strict, see `decode`. Pure."""

from __future__ import annotations

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_sidecar.controlclient.decode_values import Undecodable, known, seconds
from postwarden_sidecar.rules.settings import Action, Dnsbl, DnsblSite, Handover, Protocol, ProtocolTest

ACTIONS = {
    pb.ACTION_IGNORE: Action.IGNORE,
    pb.ACTION_ENFORCE: Action.ENFORCE,
    pb.ACTION_DROP: Action.DROP,
}
_HANDOVERS = {pb.HANDOVER_INLINE: Handover.INLINE, pb.HANDOVER_RECONNECT: Handover.RECONNECT}


def dnsbl(dnsbl: pb.Dnsbl) -> Dnsbl:
    """Raises Undecodable, in whose text no zone stands: it may hold a key."""
    if dnsbl.threshold < 1:
        raise Undecodable(f"rules.dnsbl.threshold is {dnsbl.threshold}: every client would fail")
    if dnsbl.allow_threshold > 0:
        raise Undecodable(f"rules.dnsbl.allow_threshold is {dnsbl.allow_threshold}, which is above 0")
    return Dnsbl(
        action=known("rules.dnsbl.action", dnsbl.action, ACTIONS),
        threshold=dnsbl.threshold,
        allow_threshold=dnsbl.allow_threshold,
        timeout=seconds("rules.dnsbl.timeout_ms", dnsbl.timeout_ms),
        ttl_min=seconds("rules.dnsbl.ttl_min_ms", dnsbl.ttl_min_ms),
        ttl_max=seconds("rules.dnsbl.ttl_max_ms", dnsbl.ttl_max_ms),
        resolvers=tuple(dnsbl.resolvers),
        sites=tuple(_site(f"rules.dnsbl.sites[{at}]", site) for at, site in enumerate(dnsbl.sites)),
    )


def _site(field: str, site: pb.DnsblSite) -> DnsblSite:
    for name in ("zone", "template", "label"):
        if not getattr(site, name):
            raise Undecodable(f"{field}.{name} is missing")
    return DnsblSite(
        zone=site.zone,
        template=site.template,
        replies=_filter(f"{field}.replies", site.replies) if site.HasField("replies") else None,
        weight=site.weight,
        label=site.label,
    )


def _filter(
    field: str, replies: pb.ReplyFilter
) -> tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int]]:
    if not (replies.first and replies.second and replies.third and replies.fourth):
        raise Undecodable(f"{field} lacks an octet")
    return (
        frozenset(replies.first),
        frozenset(replies.second),
        frozenset(replies.third),
        frozenset(replies.fourth),
    )


def protocol(protocol: pb.Protocol) -> Protocol:
    """Raises Undecodable."""
    return Protocol(
        pipelining=_test("rules.protocol.pipelining", protocol.pipelining),
        non_smtp_command=_test("rules.protocol.non_smtp_command", protocol.non_smtp_command),
        bare_newline=_test("rules.protocol.bare_newline", protocol.bare_newline),
        forbidden_commands=tuple(protocol.forbidden_commands),
        handover=known("rules.protocol.handover", protocol.handover, _HANDOVERS),
    )


def _test(field: str, test: pb.ProtocolTest) -> ProtocolTest:
    return ProtocolTest(
        enabled=test.enabled,
        action=known(f"{field}.action", test.action, ACTIONS),
        ttl=seconds(f"{field}.ttl_ms", test.ttl_ms),
    )
