"""The PROXY header's parser: whole, in every piece, and wrong."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.proxy_header import MAX_V1, MAX_V2_LENGTH, Announced, BadHeader, HeaderParser
from postwarden_sidecar.handoff import proxy_header as sender

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = Announced("198.51.100.1", 4001, "192.0.2.25", 25)
V6 = Announced("2001:db8::1", 4004, "2001:db8::25", 25)


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


BODY4 = bytes([198, 51, 100, 1, 192, 0, 2, 25]) + struct.pack("!HH", 4001, 25)
BODY6 = (
    ipaddress.ip_address("2001:db8::1").packed
    + ipaddress.ip_address("2001:db8::25").packed
    + struct.pack("!HH", 4004, 25)
)
GOOD: list[tuple[bytes, Announced | None]] = [
    (b"PROXY TCP4 198.51.100.1 192.0.2.25 4001 25\r\n", V4),
    (b"PROXY TCP4 198.51.100.1 192.0.2.25 4001 25\n", V4),
    (b"PROXY tcp4 198.51.100.1  192.0.2.25 4001 25 9 \r\r\n", V4),  # as Postfix has it
    (b"PROXY TCP6 2001:db8::1 2001:db8::25 4004 25\r\n", V6),
    (b"PROXY TCP6 2001:0DB8:0:0::1 2001:db8::25 4004 25\r\n", V6),
    (b"PROXY TCP6 ::ffff:198.51.100.1 ::ffff:192.0.2.25 4001 25\r\n", V4),
    (b"PROXY TCP6 ::ffff:198.51.100.1 2001:db8::25 4001 25\r\n", V4._replace(server_address="2001:db8::25")),
    (b"PROXY TCP4 198.51.100.1 192.0.2.25 0 65535\r\n", Announced("198.51.100.1", 0, "192.0.2.25", 65535)),
    (v2(0x21, 0x11, BODY4), V4),
    (v2(0x21, 0x21, BODY6), V6),
    (v2(0x21, 0x21, BODY6 + b"\x04\0\x05abcde"), V6),
    (v2(0x21, 0x11, BODY4 + bytes(MAX_V2_LENGTH - 12)), V4),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, BODY4), None),
    (v2(0x20, 0x31, bytes(216)), None),
]
BAD = [
    b"EHLO x\r\n",
    b"\r\n\r\n\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 66000 25\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 -1 25\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 +1 25\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 4001\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 04001 25\r\n",
    b"PROXY TCP4 2001:db8::1 192.0.2.25 4000 25\r\n",
    b"PROXY TCP6 198.51.100.1 192.0.2.25 4000 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 fe80::2 4000 25\r\n",
    b"PROXY TCP4 198.51.100.01 192.0.2.25 4000 25\r\n",
    b"PROXY TCP4 198.51.100.1 192.0.2.25 \xb2 25\r\n",
    b"proxy TCP4 198.51.100.1 192.0.2.25 4001 25\r\n",
    b"PROXY " + b"x" * MAX_V1 + b"\r\n",
    v2(0x21, 0x12, BODY4),  # UDP
    v2(0x21, 0x31, bytes(216)),  # UNIX
    v2(0x21, 0x00, b""),  # UNSPEC
    v2(0x21, 0x11, BODY4[:-1]),
    v2(0x21, 0x21, BODY4),
    v2(0x22, 0x11, BODY4),
    v2(0x11, 0x11, BODY4),
    v2(0x21, 0x11, BODY4 + bytes(MAX_V2_LENGTH - 11)),
    v2(0x20, 0x00, bytes(MAX_V2_LENGTH + 1)),
]
BEHIND = b"EHLO x\r\nPROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n"


def feed(data: bytes, pieces: list[int]) -> tuple[HeaderParser, bytes]:
    """A parser that peeked at data in so many growing views, and what it left in the socket."""
    parser = HeaderParser()
    taken = 0
    for end in [*pieces, len(data)]:
        while not parser.complete and taken < end:
            taken += parser.receive(data[taken:end])
    return parser, data[taken:]


@pytest.mark.parametrize(("header", "announced"), GOOD)
def test_a_header_is_taken_and_not_a_byte_more(header: bytes, announced: Announced | None) -> None:
    parser, left = feed(header + BEHIND, [])
    assert parser.complete
    assert parser.announced == announced
    assert parser.size == len(header)
    assert left == BEHIND


@pytest.mark.parametrize(("header", "announced"), GOOD)
def test_a_header_in_any_two_pieces_or_byte_by_byte_is_the_same(
    header: bytes, announced: Announced | None
) -> None:
    data = header + BEHIND
    for pieces in (*([cut] for cut in range(1, len(data))), list(range(1, len(data)))):
        parser, left = feed(data, pieces)
        assert (parser.complete, parser.announced, left) == (True, announced, BEHIND)


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused_however_it_comes(data: bytes) -> None:
    for pieces in ([], list(range(1, len(data)))):
        with pytest.raises(BadHeader):
            feed(data, pieces)


@pytest.mark.parametrize(("header", "announced"), GOOD)
def test_a_part_of_a_header_is_waited_for(header: bytes, announced: Announced | None) -> None:
    for size in range(len(header)):
        parser, left = feed(header[:size], [])
        assert not parser.complete
        assert left == b""


@given(st.binary(max_size=700), st.lists(st.integers(0, 700), max_size=5).map(sorted))
def test_any_bytes_end_or_wait_within_bounds(data: bytes, pieces: list[int]) -> None:
    for prefix in (b"", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        whole = prefix + data
        try:
            parser, _ = feed(whole, [piece for piece in pieces if piece < len(whole)])
        except BadHeader:
            continue
        assert parser.complete or parser.size == len(whole)
        assert parser.size <= 16 + MAX_V2_LENGTH


@given(
    st.ip_addresses(),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from([1, 2]),
)
def test_reads_what_our_own_hand_off_writes(
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    server: ipaddress.IPv4Address | ipaddress.IPv6Address,
    client_port: int,
    server_port: int,
    version: int,
) -> None:
    encode = sender.encode_v1 if version == 1 else sender.encode_v2
    parser, left = feed(encode(str(client), client_port, str(server), server_port) + b"x", [])
    assert left == b"x"
    assert parser.announced is not None
    assert parser.announced.client_port == client_port
    plain = getattr(client, "ipv4_mapped", None) or client
    assert parser.announced.client_address == str(plain)
