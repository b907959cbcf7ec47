"""DNSBL sites as they go over the wire, with the keys of Secrets in their zones. Pure.

Contract: a Secret says itself what it may be used for, or whoever may write a policy could have any Secret asked for at a name server of
his own. A key gets into the wire's `zone` and nowhere else: no message, no repr and no hash holds it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.content import (
    CompileReason,
    Missing,
    NotPermitted,
    SecretContent,
    SecretValue,
)
from postwarden_operator.compiler.wire_words import ACTIONS
from postwarden_operator.policy import FieldError, ScreeningPolicy, SecretKey
from postwarden_operator.policy.dnsbl import USED_FOR, Dnsbl, DnsblSite
from postwarden_operator.policy.duration import milliseconds
from postwarden_operator.policy.references import secret_of
from postwarden_operator.policy.reply_filter import parse_reply_filter
from postwarden_operator.policy.smtp_formats import KEY, LONGEST_ZONE, ZONE_PATTERN

_Problem = tuple[CompileReason, FieldError]


@dataclass(frozen=True, slots=True)
class ZoneKey:
    """The key of a site. version: of its Secret."""

    secret: SecretKey
    version: str
    value: str = field(repr=False)


def keys_of(
    policy: ScreeningPolicy, secrets: Mapping[SecretKey, SecretContent]
) -> tuple[list[ZoneKey | None], list[_Problem]]:
    """The key of each site, None for a site that needs none; and what is wrong."""
    keys: list[ZoneKey | None] = []
    problems: list[_Problem] = []
    for index, site in enumerate(policy.spec.dnsbl.sites):
        reference = secret_of(site)
        if reference is None:
            keys.append(None)
            continue
        found = _key(policy.metadata.namespace, site, reference, secrets.get(reference, Missing()))
        if isinstance(found, ZoneKey):
            keys.append(found)
        else:
            reason, sentence = found
            problems.append((reason, FieldError(f"spec.dnsbl.sites[{index}].keyFrom.secretKeyRef", sentence)))
    return keys, problems


def _key(
    namespace: str, site: DnsblSite, reference: SecretKey, content: SecretContent
) -> ZoneKey | tuple[CompileReason, str]:
    name = reference.name
    match content:
        case NotPermitted():
            return (
                "RefNotPermitted",
                f"the operator may not read Secret {name} of namespace {namespace};"
                " give its ServiceAccount a Role there that allows get on secrets",
            )
        case Missing(None):
            return (
                "RefNotFound",
                f"Secret {name} does not exist in namespace {namespace}; create it, or correct the name",
            )
        case Missing(keys):
            others = ", ".join(sorted(keys or ())) or "none"
            return "RefNotFound", f"Secret {name} has no key {reference.key}; it has {others}"
        case SecretValue() as secret:
            if not _allows(secret.used_for, site.zone):
                end = site.zone.rpartition(f"{KEY}.")[2]
                return (
                    "RefNotAllowed",
                    f"Secret {name} has no annotation {USED_FOR} that names an end of {site.zone}, like {end};"
                    " whoever owns the Secret must allow this use of it",
                )
            key = secret.value.decode("ascii", "replace").strip()
            zone = site.zone.replace(KEY, key)
            if "{" in zone or not re.fullmatch(ZONE_PATTERN, zone) or len(zone) > LONGEST_ZONE:
                return (
                    "RefNotFound",
                    f"what Secret {name} holds as {reference.key} can't stand in a domain name; put only the key there",
                )
            return ZoneKey(reference, secret.version, key)


def _allows(used_for: str | None, zone: str) -> bool:
    """The annotation names whole labels at the zone's end, behind the key."""
    end = (used_for or "").strip().strip(".").lower()
    return bool(end) and KEY not in end and f".{zone.lower()}".endswith(f".{end}")


def dnsbl(dnsbl: Dnsbl, keys: list[str | None]) -> pb.Dnsbl:
    """keys: of each site, None for a site that needs none."""
    return pb.Dnsbl(
        action=ACTIONS[dnsbl.action],
        threshold=dnsbl.threshold,
        allow_threshold=dnsbl.allow_threshold,
        timeout_ms=milliseconds(dnsbl.timeout),
        ttl_min_ms=milliseconds(dnsbl.ttl.min),
        ttl_max_ms=milliseconds(dnsbl.ttl.max),
        resolvers=dnsbl.resolvers,
        sites=[_site(site, key) for site, key in zip(dnsbl.sites, keys, strict=True)],
    )


def _site(site: DnsblSite, key: str | None) -> pb.DnsblSite:
    return pb.DnsblSite(
        zone=site.zone if key is None else site.zone.replace(KEY, key),
        template=site.zone,
        replies=None if site.replies is None else _filter(site.replies),
        weight=site.weight,
        label=site.label or site.zone.replace(f"{KEY}.", ""),
    )


def _filter(replies: str) -> pb.ReplyFilter:
    first, second, third, fourth = (bytes(sorted(octet)) for octet in parse_reply_filter(replies))
    return pb.ReplyFilter(first=first, second=second, third=third, fourth=fourth)
