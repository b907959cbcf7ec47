"""Balancers whose own connections would be screened as clients, for `postwarden check` to warn of. Pure.

A balancer that speaks the PROXY protocol probes with a header that says LOCAL, or with none of a client's addresses in it: such a
connection is judged by the balancer's own address. Where the access list does not permit that, its probes wait for the greeting, and
fail the tests like any client that says nothing.
"""

from __future__ import annotations

import ipaddress

from postwarden_sidecar.checks.access import evaluate
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import AccessAction, Rules

TRUSTED = "spec.listener.proxyProtocol.trusted"


def screened_balancers(rules: Rules) -> tuple[str, ...]:
    """Of the trusted networks those of which the access list permits not one address: a balancer has one or a few of its network."""
    trusted = [(first.packed, last.packed) for first, last, _, _ in rules.proxy_trusted.rows()]
    if not trusted:
        return ()
    tables = (rules.access.my_networks, *(rule.table for rule in rules.access.rules))
    # Where an address is permitted, so is the first of a row that begins within the network, or the network's own first.
    starts = [first.packed for table in tables for first, _, _, _ in table.rows()]
    found = []
    for first, last in trusted:
        inside = [start for start in starts if len(start) == len(first) and first < start <= last]
        if not any(_permitted(rules, packed) for packed in (first, *inside)):
            found.append(_network(first, last))
    return tuple(found)


def warning(policy: str, network: str) -> str:
    """One sentence: what, where, what to do."""
    return (
        f"{policy}: {TRUSTED}: the access list permits no address of {network}, so the balancer's own probes are screened; "
        "permit its addresses in spec.access.rules"
    )


def _permitted(rules: Rules, packed: bytes) -> bool:
    match = evaluate(rules, Facts(str(ipaddress.ip_address(packed))))
    return match is not None and match.action is AccessAction.PERMIT


def _network(first: bytes, last: bytes) -> str:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    (network, *others) = ipaddress.summarize_address_range(start, end)
    return str(network) if not others else f"{start}-{end}"
