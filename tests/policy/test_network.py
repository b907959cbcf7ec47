"""Networks as people write them, and what is said to those who write them wrong."""

from ipaddress import IPv6Network, ip_network

import pytest
from hypothesis import given
from postwarden_operator.policy.duration import milliseconds
from postwarden_operator.policy.network import Network, NotANetwork, parse_network
from strategies import networks


@given(networks())
def test_networks_are_read_as_the_standard_library_reads_them(text: str) -> None:
    expected = ip_network(text)
    assert parse_network(text) == Network(
        expected.version, int(expected.network_address), int(expected.broadcast_address)
    )


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1/24", "192.0.2.0/24"),
        ("255.255.255.255/1", "128.0.0.0/1"),
        ("1.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1/128", "192.0.2.1"),
        ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ("::ffff:c000:200/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_refusal_names_the_network_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(NotANetwork, match=f"did you mean {meant}\\?$"):
        parse_network(text)
    parse_network(meant)


def test_network_that_holds_all_of_ipv4_mapped_is_ipv6() -> None:
    assert parse_network("::/0") == Network(6, 0, int(IPv6Network("::/0").broadcast_address))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "x",
            "1.2.3",
            "1.2.3.4.5",
            "256.0.0.0",
            "01.2.3.4",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/08",
        ),
        *(
            "1.2.3.4/24/8",
            "1.2.3.4/+8",
            " 1.2.3.4",
            "1.2.3.4\n",
            "::1/",
            "::1/129",
            "::1/064",
            "fe80::1%eth0",
        ),
        *("[::1]", ":::", "１.2.3.4", "::1/１"),
    ],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(NotANetwork, match="neither an address nor a network"):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "length"), [("6s", 6000), ("500ms", 500), ("1h30m", 5_400_000), ("1m1ms", 60_001), ("0h", 0)]
)
def test_durations_are_read(text: str, length: int) -> None:
    assert milliseconds(text) == length
