"""PROXY headers as they are written, for either version and family."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.handoff.proxy_header import SIGNATURE_V2, encode_v1, encode_v2, encode_v2_local

V6 = st.ip_addresses(v=6).map(ipaddress.IPv6Address).filter(lambda address: address.ipv4_mapped is None)
PORTS = st.integers(0, 65535)


def parse_v2(header: bytes) -> tuple[str, int, str, int]:
    """As section 2.2 of proxy-protocol.txt has it."""
    assert header[:12] == SIGNATURE_V2
    assert header[12] == 0x21
    length = struct.unpack_from("!H", header, 14)[0]
    assert len(header) == 16 + length
    size = {0x11: 4, 0x21: 16}[header[13]]
    source, destination = (ipaddress.ip_address(header[16 + i * size : 16 + (i + 1) * size]) for i in (0, 1))
    ports = struct.unpack_from("!HH", header, 16 + 2 * size)
    return str(source), ports[0], str(destination), ports[1]


def test_v1_writes_tcp4_and_tcp6() -> None:
    assert (
        encode_v1("203.0.113.5", 54321, "192.0.2.25", 25) == b"PROXY TCP4 203.0.113.5 192.0.2.25 54321 25\r\n"
    )
    assert encode_v1("2001:db8::5", 1, "2001:db8::25", 25) == b"PROXY TCP6 2001:db8::5 2001:db8::25 1 25\r\n"


def test_v4_mapped_addresses_are_written_as_v4() -> None:
    header = encode_v1("::ffff:203.0.113.5", 54321, "::ffff:192.0.2.25", 25)
    assert header == b"PROXY TCP4 203.0.113.5 192.0.2.25 54321 25\r\n"
    assert parse_v2(encode_v2("::ffff:203.0.113.5", 1, "192.0.2.25", 25)) == (
        "203.0.113.5",
        1,
        "192.0.2.25",
        25,
    )


def test_a_mixed_pair_is_written_in_one_family() -> None:
    header = encode_v1("203.0.113.5", 54321, "2001:db8::25", 25)
    words = header.split()
    assert words[1] == b"TCP6"
    assert ipaddress.IPv6Address(words[2].decode()).ipv4_mapped == ipaddress.IPv4Address("203.0.113.5")


def test_the_zone_of_a_link_local_address_is_left_out() -> None:
    assert b"fe80::1 fe80::2" in encode_v1("fe80::1%eth0", 1, "fe80::2%eth0", 2)


def test_v2_local_has_no_addresses() -> None:
    assert encode_v2_local() == SIGNATURE_V2 + b"\x20\x00\x00\x00"


@given(st.ip_addresses(v=4), PORTS, st.ip_addresses(v=4), PORTS)
def test_v2_round_trip_of_v4(
    source: object, source_port: int, destination: object, destination_port: int
) -> None:
    header = encode_v2(str(source), source_port, str(destination), destination_port)
    assert parse_v2(header) == (str(source), source_port, str(destination), destination_port)


@given(
    V6,
    PORTS,
    V6,
    PORTS,
)
def test_v2_round_trip_of_v6(
    source: object, source_port: int, destination: object, destination_port: int
) -> None:
    header = encode_v2(str(source), source_port, str(destination), destination_port)
    assert parse_v2(header) == (str(source), source_port, str(destination), destination_port)


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
def test_what_is_no_address_is_refused(encode: object) -> None:
    with pytest.raises(ValueError):
        encode("mail.example.org", 1, "192.0.2.25", 25)  # type: ignore[operator]  # both have one signature
