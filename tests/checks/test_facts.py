"""Addresses of clients in their usual form."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.checks.facts import normalise


@given(st.ip_addresses())
def test_every_address_is_known_by_its_usual_text(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    plain = mapped or address
    assert normalise(str(address)) == (str(plain), plain.packed)
    assert normalise(address.exploded) == (str(plain), plain.packed)


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_mapped_addresses_zones_and_capitals_are_taken_out(text: str, usual: str) -> None:
    assert normalise(text) == (usual, ipaddress.ip_address(usual).packed)


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.+4", " 1.2.3.4", "1.2.3.4.5", "::g", "mx", "1.2.3.-4"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        normalise(text)
