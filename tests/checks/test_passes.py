"""Passes: what a client is to pass yet, and what is stored of it."""

from __future__ import annotations

import pytest
from engine.scene import make_rules
from postwarden_sidecar.checks import passes, prefix
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import Action, Dnsbl, DnsblSite, Protocol, ProtocolTest

ON = ProtocolTest(True, Action.ENFORCE, 500.0)
RULES = make_rules(ttl=100.0)
DEEP = make_rules(ttl=100.0, protocol=Protocol(pipelining=ON, bare_newline=ON))
SITES = (DnsblSite("bl.example.", "bl.example.", None, 1, "bl.example"),)


@pytest.mark.parametrize(
    ("expires", "valid"),
    [
        (1000.0, False),  # runs out now
        (1000.1, True),
        (1100.0, True),  # stored at this moment
        (1101.0, True),  # by a clock that was read a moment earlier
        (1101.1, False),  # later than any pass of ours: a clock was wrong
        (0.0, False),
        (1.0, False),
        (float("inf"), False),
        (float("nan"), False),
    ],
)
def test_a_pass_counts_until_it_runs_out_and_only_if_it_could_be_ours(expires: float, valid: bool) -> None:
    assert (not passes.due(RULES, {"pregreet": expires}, 1000.0)) is valid


def test_each_test_has_a_pass_of_its_own() -> None:
    assert passes.due(DEEP, {}, 1000.0) == {"pregreet", "pipelining", "bare_newline"}
    assert passes.due(DEEP, {"dnsbl": 1050.0, "pregreet": 1050.0}, 1000.0) == {"pipelining", "bare_newline"}
    known = {"pregreet": 1050.0, "pipelining": 1450.0, "bare_newline": 1501.1}
    assert passes.due(DEEP, known, 1000.0) == {"bare_newline"}


def test_a_pass_given_by_an_allow_list_may_last_as_long_as_its_answers() -> None:
    dnsbl = Dnsbl(sites=SITES, allow_threshold=-1, ttl_max=3000.0)
    assert (
        passes.due(make_rules(ttl=100.0, dnsbl=dnsbl), {"pregreet": 3900.0, "dnsbl": 3900.0}, 1000.0)
        == frozenset()
    )


def test_only_who_never_passed_what_was_on_is_new() -> None:
    assert passes.is_new({})
    assert passes.is_new({"pregreet": 5.0, "pipelining": passes.NEVER})
    assert not passes.is_new({"pregreet": 5.0, "pipelining": passes.NOT_ENABLED})
    assert not passes.is_new({"pregreet": 5.0})  # a test that came later reads as one that was off


def test_what_is_stored_says_what_was_not_passed_yet() -> None:
    assert passes.record(DEEP, {}, {"pregreet": 1100.0}) == {
        "pregreet": 1100.0,
        "pipelining": passes.NEVER,
        "bare_newline": passes.NEVER,
    }
    assert passes.record(DEEP, {"pipelining": 900.0, "bare_newline": 0.0}, {"pregreet": 1100.0}) == {
        "pregreet": 1100.0
    }
    known = {"pregreet": 900.0, "pipelining": passes.NEVER}
    assert passes.record(RULES, known, {"pregreet": 1100.0}) == {
        "pregreet": 1100.0,
        "pipelining": passes.NOT_ENABLED,  # switched off since
    }


@pytest.mark.parametrize(
    ("address", "ipv4", "ipv6", "key"),
    [
        ("192.0.2.7", 32, 64, "192.0.2.7"),
        ("192.0.2.7", 24, 64, "192.0.2.0/24"),
        ("192.0.2.7", 0, 64, "0.0.0.0/0"),
        ("2001:db8:1:2:3::7", 24, 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::7", 24, 128, "2001:db8:1:2:3::7"),
    ],
)
def test_clients_count_by_their_prefix(address: str, ipv4: int, ipv6: int, key: str) -> None:
    facts = Facts(address)
    assert prefix.key(facts.address, facts.packed, ipv4, ipv6) == key
