"""The policies of the recorded cases mean what the main.cf settings beside them mean: document, compiler, wire and decoder together.

Each profile has both; here postscreen's settings are read by a reader of their own, and compared with the rules that a sidecar gets.
"""

import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from engine.recorded_policies import RESOLVER, rules_of
from postwarden_sidecar.rules.settings import Action, Handover, ProtocolTest

CASES = Path(__file__).parents[1] / "data" / "postscreen-cases.json"
PROFILES: dict[str, dict[str, Any]] = json.loads(CASES.read_text())["profiles"]

# Of Postfix 3.7, postconf(5); for what the profiles leave out.
DEFAULTS = {
    "mynetworks": "",
    "postscreen_access_list": "",
    "postscreen_greet_action": "enforce",
    "postscreen_greet_ttl": "1d",
    "postscreen_dnsbl_action": "enforce",
    "postscreen_dnsbl_sites": "",
    "postscreen_dnsbl_threshold": "1",
    "postscreen_dnsbl_allowlist_threshold": "0",
    "postscreen_dnsbl_timeout": "10s",
    "postscreen_dnsbl_min_ttl": "60s",
    "postscreen_dnsbl_max_ttl": "1h",
    "postscreen_pipelining_ttl": "30d",
    "postscreen_non_smtp_command_ttl": "30d",
    "postscreen_bare_newline_ttl": "30d",
    "postscreen_command_time_limit": "300s",
    "postscreen_command_count_limit": "20",
    "line_length_limit": "2048",
    "postscreen_helo_required": "no",
    "postscreen_reject_footer": "",
    "postscreen_discard_ehlo_keywords": "",
    "postscreen_client_connection_count_limit": "50",
    "postscreen_pre_queue_limit": "1000",
    "postscreen_post_queue_limit": "100",
    "postscreen_cache_retention_time": "7d",
    "postscreen_upstream_proxy_protocol": "",
}
ACTIONS = {"ignore": Action.IGNORE, "enforce": Action.ENFORCE, "drop": Action.DROP}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    return float(text[:-1]) * UNITS[text[-1]]


def times(text: str) -> tuple[float, float]:
    """As it is, and under stress."""
    conditional = re.fullmatch(r"\$\{stress\?\{(.*)\}:\{(.*)\}\}(.*)", text)
    if conditional is None:
        return seconds(text), seconds(text)
    under_stress, otherwise, unit = conditional.groups()
    return seconds(otherwise + unit), seconds(under_stress + unit)


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def filter_of(text: str | None) -> tuple[frozenset[int], ...] | None:
    if text is None:
        return None
    octets = re.findall(r"\[[^\]]*\]|\d+", text)
    return tuple(
        frozenset(
            value
            for item in octet.strip("[]").split(";")
            for low, _, high in [item.partition("..")]
            for value in range(int(low), int(high or low) + 1)
        )
        for octet in octets
    )


def sites_of(text: str) -> list[tuple[str, tuple[frozenset[int], ...] | None, int]]:
    sites = []
    for word in words(text):
        match = re.fullmatch(r"([^=*]+)(?:=([^*]+))?(?:\*(-?\d+))?", word)
        assert match
        sites.append((match[1], filter_of(match[2]), int(match[3] or 1)))
    return sites


@pytest.mark.parametrize("name", PROFILES)
def test_policy_means_what_the_settings_of_postscreen_mean(name: str) -> None:
    profile = PROFILES[name]
    rules = rules_of(profile["policy"])
    unread = set(profile["postfix"])

    def setting(name: str) -> str:
        unread.discard(name)
        return str(profile["postfix"].get(name, DEFAULTS.get(name)))

    def test(name: str) -> ProtocolTest:
        return ProtocolTest(
            setting(f"postscreen_{name}_enable") == "yes",
            ACTIONS[setting(f"postscreen_{name}_action")],
            seconds(setting(f"postscreen_{name}_ttl")),
        )

    def number(name: str) -> int:
        return int(setting(name))

    def duration(name: str) -> float:
        return seconds(setting(name))

    assert rules.access.reject_action is ACTIONS[setting("postscreen_denylist_action")]
    mine = setting("mynetworks") if "permit_mynetworks" in setting("postscreen_access_list") else ""
    assert len(rules.access.my_networks) == (1 if mine else 0)
    if mine:
        assert rules.access.my_networks.lookup(ip_network(mine)[0].packed) is not None
    assert bool(rules.access.rules) == ("cidr:" in setting("postscreen_access_list"))

    assert (rules.pregreet.wait, rules.stress_wait) == times(setting("postscreen_greet_wait"))
    assert rules.pregreet.banner == setting("postscreen_greet_banner")
    assert rules.pregreet.action is ACTIONS[setting("postscreen_greet_action")]
    assert rules.pregreet.ttl == duration("postscreen_greet_ttl")

    dnsbl = rules.dnsbl
    assert dnsbl.action is ACTIONS[setting("postscreen_dnsbl_action")]
    assert dnsbl.threshold == number("postscreen_dnsbl_threshold")
    assert dnsbl.allow_threshold == number("postscreen_dnsbl_allowlist_threshold")
    assert dnsbl.timeout == duration("postscreen_dnsbl_timeout")
    assert dnsbl.ttl_min == duration("postscreen_dnsbl_min_ttl")
    assert dnsbl.ttl_max == duration("postscreen_dnsbl_max_ttl")
    expected = sites_of(setting("postscreen_dnsbl_sites"))
    assert [(site.zone, site.replies, site.weight) for site in dnsbl.sites] == expected
    assert dnsbl.resolvers == ((RESOLVER,) if expected else ())
    labels = dict(line.split() for line in profile.get("reply_map", "").splitlines())
    assert [site.label for site in dnsbl.sites] == [labels.get(zone, zone) for zone, _, _ in expected]
    assert bool(labels) == (setting("postscreen_dnsbl_reply_map") != "None")

    assert rules.protocol.pipelining == test("pipelining")
    assert rules.protocol.non_smtp_command == test("non_smtp_command")
    assert rules.protocol.bare_newline == test("bare_newline")
    forbidden = setting("postscreen_forbidden_commands").partition(", regexp:")[0]
    assert rules.protocol.forbidden_commands == words(forbidden)
    assert rules.protocol.handover is Handover.RECONNECT

    session = rules.session
    assert session.command_time_limit == duration("postscreen_command_time_limit")
    assert session.command_count_limit == number("postscreen_command_count_limit")
    assert session.line_length_limit == number("line_length_limit")
    assert session.hello_required == (setting("postscreen_helo_required") == "yes")
    assert session.reject_footer == setting("postscreen_reject_footer")
    assert session.hidden_extensions == words(setting("postscreen_discard_ehlo_keywords").upper())
    assert not session.soft_fail

    assert rules.limits.connections_per_client == number("postscreen_client_connection_count_limit")
    assert rules.limits.screening == number("postscreen_pre_queue_limit")
    assert rules.limits.upstream == number("postscreen_post_queue_limit")
    assert rules.cache.retention == duration("postscreen_cache_retention_time")
    assert bool(len(rules.proxy_trusted)) == (setting("postscreen_upstream_proxy_protocol") == "haproxy")
    assert rules.pass_addresses is None
    assert rules.exempt_recipients == ()
    assert not unread, "settings that no one looked at"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda policy: policy.replace("threshold: 3", "threshold: 4"), "threshold"),
        (lambda policy: policy.replace("[0;1]", "[0;2]"), "sites"),
    ],
)
def test_another_policy_gives_other_rules(change: Callable[[str], str], field: str) -> None:
    policy = PROFILES["v-dnsbl-enforce"]["policy"]
    assert getattr(rules_of(policy).dnsbl, field) != getattr(rules_of(change(policy)).dnsbl, field)
