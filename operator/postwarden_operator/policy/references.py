"""Which ConfigMaps and Secrets a policy reads."""

from dataclasses import dataclass

from postwarden_operator.policy.dnsbl import DnsblSite
from postwarden_operator.policy.model import ListFrom, ScreeningPolicy


@dataclass(frozen=True, slots=True, order=True)
class ConfigMapKey:
    """A key of a ConfigMap in the policy's own namespace."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"ConfigMap {self.name}, key {self.key}"


@dataclass(frozen=True, slots=True, order=True)
class SecretKey:
    """A key of a Secret in the policy's own namespace."""

    name: str
    key: str


def list_sources(list_from: ListFrom) -> tuple[ConfigMapKey, ...]:
    """The sources of one list, in the order in which they are joined."""
    references = [source.config_map_key_ref for source in list_from.sources or ()]
    if list_from.config_map_key_ref is not None:
        references.append(list_from.config_map_key_ref)
    return tuple(ConfigMapKey(reference.name, reference.key) for reference in references)


def config_map_references(policy: ScreeningPolicy) -> frozenset[ConfigMapKey]:
    """All that the policy's lists come from."""
    return frozenset(
        key
        for rule in policy.spec.access.rules
        if rule.list_from is not None
        for key in list_sources(rule.list_from)
    )


def secret_of(site: DnsblSite) -> SecretKey | None:
    """Where the key for the site's zone is; None: it needs none."""
    if site.key_from is None:
        return None
    return SecretKey(site.key_from.secret_key_ref.name, site.key_from.secret_key_ref.key)


def secret_references(policy: ScreeningPolicy) -> frozenset[SecretKey]:
    """All that the policy's keys come from."""
    return frozenset(key for site in policy.spec.dnsbl.sites if (key := secret_of(site)) is not None)
