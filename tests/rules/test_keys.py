"""Keys of Secrets are taken out of rules for the disk, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from controlclient.snapshots import snapshot
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.rules.image import decode as decode_image
from postwarden_sidecar.rules.image import encode
from postwarden_sidecar.rules.keys import without_blank_sites, without_keys
from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite

PLAIN = DnsblSite("bl.example", "bl.example", None, 1, "bl.example")
KEYED = DnsblSite("planted7key.zen.example", "{key}.zen.example", None, 2, "zen.example")
RULES = replace(decode(snapshot(), {}), dnsbl=Dnsbl(sites=(PLAIN, KEYED)))


def test_zone_with_a_key_is_blank_on_disk_and_its_site_is_gone_when_it_comes_back() -> None:
    image = encode(without_keys(RULES))
    assert b"planted7key" not in image
    assert b"planted7key" in encode(RULES)
    kept = decode_image(image)
    assert kept == replace(RULES, dnsbl=Dnsbl(sites=(PLAIN, replace(KEYED, zone=""))))
    assert without_blank_sites(kept) == replace(RULES, dnsbl=Dnsbl(sites=(PLAIN,)))


def test_rules_without_keys_stay_as_they_are() -> None:
    rules = replace(RULES, dnsbl=Dnsbl(sites=(PLAIN,)))
    assert without_keys(rules) is rules
    assert without_blank_sites(rules) is rules
    assert without_blank_sites(RULES) is RULES
