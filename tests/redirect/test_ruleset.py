"""The text of the rules, as nft(8) reads it. That the kernel understands it, and what it then does, is for e2e/test_redirect.py."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from postwarden_sidecar.redirect.ruleset import described, ruleset

GOLDENS = Path(__file__).with_name("goldens")
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "redirect.md"


@pytest.mark.parametrize(
    ("golden", "ports", "ipv6"),
    [
        ("dual-stack-with-proof", {10029: 10026, 25: 10025}, True),
        ("ipv4-two-ports", {2525: 10025, 25: 10025}, False),
    ],
)
def test_rules_are_what_their_golden_says(golden: str, ports: Mapping[int, int], ipv6: bool) -> None:
    assert ruleset(ports, ipv6=ipv6) == (GOLDENS / f"{golden}.nft").read_text()


def test_documented_rules_are_the_rules() -> None:
    (shown,) = re.findall(r"^```\n(table ip .*?)^```$", DOCUMENTATION.read_text(), re.M | re.S)
    assert shown in ruleset({25: 10025, 10029: 10026}, ipv6=True)


def test_what_was_done_is_told_in_a_sentence() -> None:
    both, alone = described([25], 10025, ipv6=True), described([2525, 25], 10025, ipv6=False)
    assert both == "clients of TCP port 25 come to port 10025 now (IPv4 and IPv6)"
    assert alone == "clients of TCP ports 25, 2525 come to port 10025 now (IPv4 alone: the pod has no IPv6)"
