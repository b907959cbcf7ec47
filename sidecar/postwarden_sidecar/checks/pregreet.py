"""The greeting test: a client that speaks before the greeting is complete is no mail server (RFC 5321, 3.1: it is to wait).

A hang-up before the greeting is no failure: nothing was said.
What is said during the wait is the failure itself.
"""

from __future__ import annotations

from postwarden_sidecar.rules.settings import Rules

TEST = "pregreet"


def enabled(rules: Rules) -> bool:
    """The banner "" turns the test off, and its wait with it."""
    return rules.pregreet.banner != ""


def expiry(rules: Rules, wall: float) -> float:
    """When a pass earned at wall ends, epoch seconds."""
    return wall + rules.pregreet.ttl


def failure(address: str, waited: float) -> str:
    """What is said of a client that spoke so many seconds into the wait: one sentence's worth, for a person."""
    return f"{address} spoke before the greeting was complete, {waited:.1f} s into the wait"
