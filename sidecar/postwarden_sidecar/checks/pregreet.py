"""The greeting test: a client that speaks before the greeting is complete is no mail server (RFC 5321, 3.1: it is to wait).

A hang-up before the greeting is no failure: nothing was said.
What is said during the wait is the failure itself; this file knows the test's passes.
"""

from __future__ import annotations

from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import Rules

TEST = "pregreet"


def enabled(rules: Rules) -> bool:
    """The banner "" turns the test off, and its wait with it."""
    return rules.pregreet.banner != ""


def has_pass(rules: Rules, facts: Facts, wall: float) -> bool:
    """The client passed before, and the pass lasts at wall (epoch seconds). One that lasts longer than a pass stored now
    would is a broken clock's, and counts as expired."""
    expires = facts.passes.get(TEST)
    return expires is not None and wall < expires <= wall + rules.pregreet.ttl


def expiry(rules: Rules, wall: float) -> float:
    """When a pass earned at wall ends, epoch seconds."""
    return wall + rules.pregreet.ttl
