"""The access list: myNetworks first, then rule after rule; the first that has the address decides."""

from __future__ import annotations

import pytest
from engine.scene import make_rules
from postwarden_sidecar.checks import access
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable
from postwarden_sidecar.rules.settings import Access, AccessAction, AccessRule, Action, Rules

PERMIT, REJECT, DUNNO = AccessAction.PERMIT, AccessAction.REJECT, AccessAction.DUNNO


def rules_of(*tables: list[tuple[str, int, int]], my_networks: tuple[str, ...] = ()) -> Rules:
    rules = make_rules(my_networks=my_networks)
    listed = tuple(
        AccessRule(f"spec.access.rules[{number}]", AddressTable.from_networks(rows))
        for number, rows in enumerate(tables)
    )
    access_list = Access(rules.access.my_networks, Action.ENFORCE, listed)
    return Rules(
        rules.policy,
        rules.mode,
        access_list,
        rules.pregreet,
        None,
        EMPTY,
        5.0,
        None,
        rules.log_format,
    )


# The article's example: a permitted address before the rejected network around it.
EXAMPLE = rules_of([("192.168.0.1", PERMIT, 1)], [("192.168.0.0/16", REJECT, 3)])


@pytest.mark.parametrize(
    ("address", "action", "place"),
    [
        ("192.168.0.1", PERMIT, "spec.access.rules[0], line 1"),
        ("192.168.0.2", REJECT, "spec.access.rules[1], line 3"),
        ("::ffff:192.168.7.7", REJECT, "spec.access.rules[1], line 3"),
    ],
)
def test_the_first_match_decides_and_its_row_is_named(address: str, action: AccessAction, place: str) -> None:
    match = access.evaluate(EXAMPLE, Facts(address))
    assert match is not None
    assert (match.action, match.place) == (action, place)


@pytest.mark.parametrize("address", ["192.167.255.255", "192.169.0.0", "::1", "::c0a8:1"])
def test_who_is_not_listed_is_not_decided_on(address: str) -> None:
    assert access.evaluate(EXAMPLE, Facts(address)) is None


def test_my_networks_goes_before_every_rule() -> None:
    rules = rules_of([("10.0.0.0/8", REJECT, 1)], my_networks=("10.1.0.0/16",))
    match = access.evaluate(rules, Facts("10.1.2.3"))
    assert match is not None
    assert (match.action, match.place) == (PERMIT, "spec.access.myNetworks, line 1")


def test_dunno_ends_the_search() -> None:
    rules = rules_of([("10.0.0.1", DUNNO, 1)], [("10.0.0.0/8", REJECT, 1)])
    match = access.evaluate(rules, Facts("10.0.0.1"))
    assert match is not None
    assert match.action is DUNNO


def test_a_rule_without_lines_is_named_alone() -> None:
    match = access.evaluate(rules_of([("10.0.0.1", REJECT, 0)]), Facts("10.0.0.1"))
    assert match is not None
    assert match.place == "spec.access.rules[0]"
