"""The greeting test's passes."""

from __future__ import annotations

import pytest
from engine.scene import make_rules
from postwarden_sidecar.checks import pregreet
from postwarden_sidecar.checks.facts import Facts

RULES = make_rules(ttl=100.0)


@pytest.mark.parametrize(
    ("expires", "valid"),
    [
        (1000.0, False),  # runs out now
        (1000.1, True),
        (1100.0, True),  # stored at this moment
        (1100.1, False),  # later than any pass of ours: a clock was wrong
        (0.0, False),
        (float("inf"), False),
        (float("nan"), False),
    ],
)
def test_a_pass_counts_until_it_runs_out_and_only_if_it_could_be_ours(expires: float, valid: bool) -> None:
    facts = Facts("192.0.2.1")
    facts.passes = {"pregreet": expires}
    assert pregreet.has_pass(RULES, facts, 1000.0) is valid


def test_passes_of_other_tests_do_not_count() -> None:
    facts = Facts("192.0.2.1")
    assert not pregreet.has_pass(RULES, facts, 1000.0)
    facts.passes = {"dnsbl": 1050.0}
    assert not pregreet.has_pass(RULES, facts, 1000.0)


def test_a_pass_earned_now_counts_now() -> None:
    facts = Facts("192.0.2.1")
    facts.passes = {"pregreet": pregreet.expiry(RULES, 1000.0)}
    assert pregreet.has_pass(RULES, facts, 1000.0)


@pytest.mark.parametrize(("banner", "on"), [("", False), (None, True), ("mx.example.org ESMTP", True)])
def test_an_empty_banner_turns_the_test_off(banner: str | None, on: bool) -> None:
    assert pregreet.enabled(make_rules(banner=banner)) is on
