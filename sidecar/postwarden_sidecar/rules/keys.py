"""Rules without the keys of Secrets, for the disk; and what is left of such rules when they come back.

Contract: a DNSBL site whose zone needs a key is kept with an empty zone. It can't be asked, so that rules which are read from disk go
without it until the operator sends them anew. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from postwarden_sidecar.rules.settings import DnsblSite, Rules

_KEY = "{key}"  # in a site's template: where the key stands in its zone


def without_keys(rules: Rules) -> Rules:
    """For the disk: zones that hold a key are empty."""
    if not any(_KEY in site.template for site in rules.dnsbl.sites):
        return rules
    return _with_sites(
        rules,
        tuple(replace(site, zone="") if _KEY in site.template else site for site in rules.dnsbl.sites),
    )


def without_blank_sites(rules: Rules) -> Rules:
    """From the disk: the sites that can be asked. The same object if that is all of them."""
    asked = tuple(site for site in rules.dnsbl.sites if site.zone)
    return rules if asked == rules.dnsbl.sites else _with_sites(rules, asked)


def _with_sites(rules: Rules, sites: tuple[DnsblSite, ...]) -> Rules:
    return replace(rules, dnsbl=replace(rules.dnsbl, sites=sites))
