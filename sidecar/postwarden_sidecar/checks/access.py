"""The access list: myNetworks first, then the rules in order; the first that has the address decides."""

from __future__ import annotations

from typing import NamedTuple

from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import Access, AccessAction, Rules

TEST = "access"
MY_NETWORKS = "spec.access.myNetworks"
_ACTIONS = {int(action): action for action in AccessAction}  # a call of the enum takes three times as long


class Match(NamedTuple):
    """The row that decided. field: where the policy has its list; line: of the list, 1-based; 0: it has no lines."""

    action: AccessAction
    field: str
    line: int

    @property
    def place(self) -> str:
        """Where the row stands, for a person: `spec.access.rules[3], line 17`."""
        return f"{self.field}, line {self.line}" if self.line else self.field


def evaluate(rules: Rules, facts: Facts) -> Match | None:
    """The row that decides on the client, or None if there is none. A DUNNO row ends the search: the tests decide."""
    return find(rules.access, facts.packed)


def find(access: Access, packed: bytes) -> Match | None:
    """The same of an address in network order."""
    found = access.my_networks.lookup(packed)
    if found is not None:
        return Match(AccessAction.PERMIT, MY_NETWORKS, found[1])
    for rule in access.rules:
        found = rule.table.lookup(packed)
        if found is not None:
            return Match(_ACTIONS[found[0]], rule.field, found[1])
    return None


def denial(address: str, place: str) -> str:
    """What is said of a client that a row rejects: one sentence's worth, for a person."""
    return f"{address} is rejected by {place}"
