"""Rules for the policies of the recorded cases: what this release has of their fields."""

from __future__ import annotations

import ipaddress
from typing import Any

import yaml
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable, Network
from postwarden_sidecar.rules.settings import (
    Access,
    AccessAction,
    AccessRule,
    Action,
    LogFormat,
    Mode,
    PolicyRef,
    Pregreet,
    Rules,
)

# Fields that the policies have and the rules do not have yet.
LATER_FIELDS = (
    "dnsbl",
    "limits",
    "protocol",
    "pregreet.stressWait",
    "session.commandCountLimit",
    "session.commandTimeLimit",
    "session.helloRequired",
    "session.hiddenExtensions",
    "session.lineLengthLimit",
    "session.rejectFooter",
    "session.stressCommandTimeLimit",
)
_ACTIONS = {"Permit": AccessAction.PERMIT, "Reject": AccessAction.REJECT, "Dunno": AccessAction.DUNNO}


def without_later_fields(spec: dict[str, Any]) -> dict[str, Any]:
    """A copy of spec, without LATER_FIELDS and without what selects pods."""
    left = {key: dict(value) if isinstance(value, dict) else value for key, value in spec.items()}
    del left["selector"]
    for path in LATER_FIELDS:
        parent, _, child = path.partition(".")
        if child:
            left.get(parent, {}).pop(child, None)
        else:
            left.pop(parent, None)
    return left


def rules_of(policy: str) -> Rules:
    """The rules of a profile's policy. Fails on a field that is neither known nor one of LATER_FIELDS."""
    document = next(iter(yaml.safe_load_all(policy)))
    spec = without_later_fields(document["spec"])
    access = spec.pop("access")
    pregreet = spec.pop("pregreet")
    session = spec.pop("session")
    trusted = spec.pop("listener", {}).get("proxyProtocol", {}).get("trusted", [])
    mode = Mode(spec.pop("mode"))
    assert not spec, f"fields that no one knows: {sorted(spec)}"
    assert set(pregreet) <= {"action", "wait", "banner", "ttl"}
    assert set(session) <= {"hostname"}
    return Rules(
        policy=PolicyRef("default", document["metadata"]["name"], "uid", 1, "revision", "version"),
        mode=mode,
        access=Access(
            my_networks=_table(access["myNetworks"], AccessAction.PERMIT),
            reject_action=Action(access["rejectAction"]),
            rules=tuple(
                AccessRule(f"spec.access.rules[{number}]", _rule_table(rule))
                for number, rule in enumerate(access.get("rules", []))
            ),
        ),
        pregreet=Pregreet(
            action=Action(pregreet.get("action", "Enforce")),
            wait=_seconds(pregreet["wait"]),
            banner=pregreet.get("banner"),
            ttl=_seconds(pregreet.get("ttl", "86400s")),
        ),
        upstream=None,
        proxy_trusted=_table(trusted, AccessAction.PERMIT),
        proxy_timeout=5.0,
        hostname=session["hostname"],
        log_format=LogFormat.POSTSCREEN,
    )


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
