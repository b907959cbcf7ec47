"""Rules for the policies of the recorded cases."""

from __future__ import annotations

import copy
import ipaddress
import re
from typing import Any

import yaml
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable, Network
from postwarden_sidecar.rules.settings import (
    Access,
    AccessAction,
    AccessRule,
    Action,
    Dnsbl,
    DnsblSite,
    Handover,
    Limits,
    LogFormat,
    Mode,
    PolicyRef,
    Pregreet,
    Protocol,
    ProtocolTest,
    Rules,
    Session,
)

_ACTIONS = {"Permit": AccessAction.PERMIT, "Reject": AccessAction.REJECT, "Dunno": AccessAction.DUNNO}


def rules_of(policy: str) -> Rules:
    """The rules of a profile's policy. Fails on a field that is not known."""
    document = next(iter(yaml.safe_load_all(policy)))
    spec = copy.deepcopy(document["spec"])
    del spec["selector"]
    access = spec.pop("access")
    pregreet = spec.pop("pregreet")
    session = spec.pop("session")
    trusted = spec.pop("listener", {}).get("proxyProtocol", {}).get("trusted", [])
    rules = Rules(
        policy=PolicyRef("default", document["metadata"]["name"], "uid", 1, "revision", "version"),
        mode=Mode(spec.pop("mode")),
        access=Access(
            my_networks=_table(access["myNetworks"], AccessAction.PERMIT),
            reject_action=Action(access["rejectAction"]),
            rules=tuple(
                AccessRule(f"spec.access.rules[{number}]", _rule_table(rule))
                for number, rule in enumerate(access.get("rules", []))
            ),
        ),
        stress_wait=_seconds(pregreet.pop("stressWait")),
        pregreet=Pregreet(
            action=Action(pregreet.pop("action", "Enforce")),
            wait=_seconds(pregreet.pop("wait")),
            banner=pregreet.pop("banner", None),
            ttl=_seconds(pregreet.pop("ttl", "86400s")),
        ),
        upstream=None,
        proxy_trusted=_table(trusted, AccessAction.PERMIT),
        proxy_timeout=5.0,
        hostname=session.pop("hostname"),
        log_format=LogFormat.POSTSCREEN,
        dnsbl=_dnsbl(spec.pop("dnsbl", {})),
        protocol=_protocol(spec.pop("protocol")),
        session=_session(session),
        limits=_limits(spec.pop("limits", {})),
    )
    assert not spec, f"fields that no one knows: {sorted(spec)}"
    assert not pregreet, sorted(pregreet)
    return rules


def _protocol(fields: dict[str, Any]) -> Protocol:
    def test(name: str) -> ProtocolTest:
        field = fields.pop(name)
        return ProtocolTest(field.pop("enabled"), Action(field.pop("action")))

    protocol = Protocol(
        pipelining=test("pipelining"),
        non_smtp_command=test("nonSMTPCommand"),
        bare_newline=test("bareNewline"),
        forbidden_commands=tuple(fields.pop("forbiddenCommands", Protocol().forbidden_commands)),
        handover=Handover(fields.pop("handoff")),
    )
    assert not fields, sorted(fields)
    return protocol


def _session(fields: dict[str, Any]) -> Session:
    default = Session()
    session = Session(
        command_time_limit=_seconds(fields.pop("commandTimeLimit", "300s")),
        stress_command_time_limit=_seconds(fields.pop("stressCommandTimeLimit", "10s")),
        command_count_limit=fields.pop("commandCountLimit", default.command_count_limit),
        line_length_limit=fields.pop("lineLengthLimit", default.line_length_limit),
        hello_required=fields.pop("helloRequired", False),
        reject_footer=fields.pop("rejectFooter", ""),
        hidden_extensions=tuple(fields.pop("hiddenExtensions", ())),
    )
    assert not fields, sorted(fields)
    return session


def _limits(fields: dict[str, Any]) -> Limits:
    default = Limits()
    limits = Limits(
        connections_per_client=fields.pop("connectionsPerClient", default.connections_per_client),
        screening=fields.pop("screening", default.screening),
        upstream=fields.pop("upstream", default.upstream),
    )
    assert not fields, sorted(fields)
    return limits


def _dnsbl(fields: dict[str, Any]) -> Dnsbl:
    default = Dnsbl()
    if not fields:
        return default
    ttl = fields.pop("ttl", {})
    del fields["resolvers"]
    dnsbl = Dnsbl(
        action=Action(fields.pop("action", "Enforce")),
        threshold=fields.pop("threshold", default.threshold),
        allow_threshold=fields.pop("allowThreshold", default.allow_threshold),
        timeout=_seconds(fields.pop("timeout", "10s")),
        ttl_min=_seconds(ttl.get("min", "60s")),
        ttl_max=_seconds(ttl.get("max", "3600s")),
        sites=tuple(
            DnsblSite(
                zone=site["zone"],
                template=site["zone"],
                replies=_filter(site["replies"]) if "replies" in site else None,
                weight=site.get("weight", 1),
                label=site.get("label", site["zone"]),
            )
            for site in fields.pop("sites")
        ),
    )
    assert not fields, sorted(fields)
    return dnsbl


def _filter(text: str) -> tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int]]:
    """`127.0.0.[2..4;9]`: the octets, each a number or a list of numbers and ranges."""
    one, two, three, four = (_octet(part) for part in re.findall(r"\[[^]]*\]|[0-9]+", text))
    return one, two, three, four


def _octet(text: str) -> frozenset[int]:
    values: set[int] = set()
    for part in text.strip("[]").split(";"):
        low, _, high = part.partition("..")
        values |= set(range(int(low), int(high or low) + 1))
    return frozenset(values)


def _seconds(duration: str) -> float:
    assert duration.endswith("s"), duration
    return float(duration.removesuffix("s"))


def _table(networks: list[str], action: AccessAction) -> AddressTable:
    return AddressTable.from_networks((network, action, 0) for network in networks) if networks else EMPTY


def _rule_table(rule: dict[str, Any]) -> AddressTable:
    if "listFrom" in rule:
        return AddressTable.from_networks(_flat_cidr_table())
    return _table(rule["cidrs"], _ACTIONS[rule["action"]])


def _flat_cidr_table() -> list[tuple[Network, int, int]]:
    """The list of profile v-access-cidr, flattened by hand: (network, action, line). A DUNNO line has no row: the next rule is asked."""
    permit, reject = AccessAction.PERMIT, AccessAction.REJECT
    everywhere = ipaddress.IPv4Network("0.0.0.0/0")
    wide = ipaddress.IPv4Network("127.1.0.0/16")
    near = ipaddress.IPv4Network("127.1.4.0/24")
    inner = ipaddress.IPv4Network("127.1.4.128/26")
    single = ipaddress.IPv4Network("127.1.4.130/32")
    rows: list[tuple[Network, int, int]] = [
        (ipaddress.IPv4Network("127.1.4.8/30"), permit, 2),
        (ipaddress.IPv4Network("127.1.4.16/28"), reject, 4),
        (single, permit, 8),
        (ipaddress.IPv4Network("127.1.4.96/27"), permit, 15),
    ]
    rows += [(network, reject, 6) for network in everywhere.address_exclude(wide)]
    rows += [(network, reject, 9) for network in inner.address_exclude(single)]
    rows += [(network, reject, 12) for network in wide.address_exclude(near)]
    return rows
