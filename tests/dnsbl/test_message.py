"""Encoder and decoder of DNS messages, with dnspython as the oracle."""

from __future__ import annotations

import ipaddress
import struct
import time

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.dns import message
from postwarden_sidecar.dns.message import (
    MAX_RECORDS,
    MAX_REMEMBERED,
    UDP_PAYLOAD,
    MalformedReply,
    Reply,
    decode_reply,
    encode_query,
    identifier_of,
    question,
    reversed_labels,
    zone_labels,
)

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ZONES = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
# An IPv4 address written as IPv6 is made IPv4 before anybody is asked.
CLIENTS = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda address: not str(address).startswith("::ffff:"))
).map(str)
TTLS = st.integers(0, 2**31 - 1)
ASKED = question(reversed_labels("127.0.0.2"), zone_labels("bl.example"))
NAME = "2.0.0.127.bl.example."


def by_dnspython(client: str, zone: str) -> dns.name.Name:
    address = ipaddress.ip_address(client)
    reverse = dns.reversename.from_address(client)
    origin = dns.name.from_text("in-addr.arpa." if address.version == 4 else "ip6.arpa.")
    return reverse.relativize(origin).derelativize(dns.name.from_text(zone))


@given(CLIENTS, ZONES, st.booleans(), st.integers(0, 65535))
def test_a_query_is_what_dnspython_reads_from_it(client: str, zone: str, dot: bool, identifier: int) -> None:
    asked = question(reversed_labels(client), zone_labels(zone + "." * dot))
    read = dns.message.from_wire(encode_query(identifier, asked))
    assert read.id == identifier
    assert read.flags == dns.flags.RD
    assert read.edns == 0
    assert read.payload == UDP_PAYLOAD
    (only,) = read.question
    assert (only.name, only.rdtype) == (by_dnspython(client, zone), dns.rdatatype.A)


@pytest.mark.parametrize("zone", ["", ".", "a..b", "x" * 64, "bücher.example", ".".join(["x" * 63] * 4)])
def test_a_zone_that_no_name_can_be_made_of_is_refused(zone: str) -> None:
    with pytest.raises(ValueError):
        zone_labels(zone)


def test_a_name_that_gets_too_long_with_the_client_is_refused() -> None:
    with pytest.raises(ValueError):
        question(reversed_labels("2001:db8::1"), zone_labels(".".join(["x" * 48] * 4)))


@pytest.mark.parametrize(
    "address", ["", "1.2.3", "1.2.3.4.5", "a.b.c.d", "1.2.3.", "::g", "²1.1.1.1", "1234.1.1.1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        reversed_labels(address)


@st.composite
def responses(draw: st.DrawFn) -> dns.message.Message:
    """A sane answer of a resolver: aliases, then addresses or none; SOA or none; other records in between."""
    name = by_dnspython(draw(CLIENTS), draw(ZONES))
    query = dns.message.make_query(name, "A", use_edns=0, payload=UDP_PAYLOAD, id=draw(st.integers(0, 65535)))
    response = dns.message.make_response(query)
    targets = draw(st.lists(ZONES, max_size=4, unique=True))
    owner = name
    for target in targets:
        response.answer.append(dns.rrset.from_text(owner, draw(TTLS), "IN", "CNAME", target + "."))
        owner = dns.name.from_text(target)
    if name in [dns.name.from_text(target) for target in targets]:
        response.answer.clear()
        owner = name
    addresses = draw(st.lists(st.ip_addresses(v=4).map(str), max_size=6, unique=True))
    if addresses:
        response.answer.append(dns.rrset.from_text(owner, draw(TTLS), "IN", "A", *addresses))
    elif draw(st.booleans()):
        response.set_rcode(dns.rcode.NXDOMAIN)
    if draw(st.booleans()):
        response.answer.append(dns.rrset.from_text("other.example.", 5, "IN", "A", "192.0.2.1"))
    if draw(st.booleans()):
        response.answer.append(dns.rrset.from_text(owner, 5, "IN", "TXT", '"listed"'))
    if draw(st.booleans()):
        zone = owner.parent() if draw(st.booleans()) else owner
        soa = f"ns.{'x' * 10}.example. hostmaster.example. 1 2 3 4 {draw(TTLS)}"
        response.authority.append(dns.rrset.from_text("elsewhere.example.", 1, "IN", "SOA", soa))
        response.authority.append(dns.rrset.from_text(zone, draw(TTLS), "IN", "SOA", soa))
    return response


def asked_of(message: dns.message.Message) -> bytes:
    wire = message.question[0].name.to_wire()
    assert wire is not None
    return wire + b"\0\1\0\1"


@given(responses())
def test_a_reply_means_what_it_means_to_dnspython(response: dns.message.Message) -> None:
    mine = decode_reply(response.to_wire(), response.id, asked_of(response))
    read = dns.message.from_wire(response.to_wire())
    assert isinstance(read, dns.message.QueryMessage)
    chain = read.resolve_chaining()
    addresses = [] if chain.answer is None else [record.address for record in chain.answer]
    assert mine is not None
    assert (mine.rcode, mine.truncated) == (response.rcode(), False)
    assert sorted(str(ipaddress.IPv4Address(address)) for address in mine.addresses) == sorted(addresses)
    if mine.ttl is not None:
        assert mine.ttl == chain.minimum_ttl
    else:
        assert not mine.addresses
        assert all(soa.name.labels[0] == b"elsewhere" for soa in read.authority)


@given(CLIENTS, ZONES, st.ip_addresses(v=4), TTLS, st.booleans(), st.booleans())
def test_the_usual_reply_of_one_address_means_what_dnspython_and_the_long_way_read(
    client: str, zone: str, address: ipaddress.IPv4Address, ttl: int, shouted: bool, signed: bool
) -> None:
    query = dns.message.make_query(by_dnspython(client, zone), "A", use_edns=0, payload=UDP_PAYLOAD)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", "A", str(address)))
    if signed:
        response.authority.append(dns.rrset.from_text(zone + ".", 9, "IN", "NS", "ns.example."))
    wire = response.to_wire()
    asked = asked_of(response)
    if shouted:
        wire = wire[:12] + wire[12 : 8 + len(asked)].upper() + wire[8 + len(asked) :]
    read = decode_reply(wire, query.id, asked)
    assert read == Reply(0, False, (address.packed,), ttl)
    chain = dns.message.from_wire(wire)
    assert isinstance(chain, dns.message.QueryMessage)
    assert chain.resolve_chaining().minimum_ttl == ttl
    # Two answers are read the long way; the same twice mean what one means.
    end = 12 + len(asked)
    twice = wire[:6] + b"\0\2\0\0\0\0" + wire[12:end] + wire[end : end + 16] * 2
    assert decode_reply(twice, query.id, asked) == read


@given(responses(), st.data())
def test_a_changed_reply_never_means_more_than_to_dnspython(
    response: dns.message.Message, data: st.DataObject
) -> None:
    wire = bytearray(response.to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wire[: data.draw(st.integers(0, len(wire)))]) if data.draw(st.booleans()) else bytes(wire)
    try:
        mine = decode_reply(cut, response.id, asked_of(response))
    except MalformedReply:
        return
    if mine is None or not mine.addresses:
        return
    try:
        read = dns.message.from_wire(cut, ignore_trailing=True)
        assert isinstance(read, dns.message.QueryMessage)
        chain = read.resolve_chaining()
    except Exception:
        return  # it is stricter with records that we have no use for
    assert chain.answer is not None
    assert {ipaddress.IPv4Address(address).exploded for address in mine.addresses} <= {
        record.address for record in chain.answer
    }


@given(st.binary(max_size=600), st.integers(0, 65535))
def test_no_bytes_break_the_decoder(junk: bytes, counts: int) -> None:
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, counts & 0xFF, counts >> 8, 0) + ASKED
    for packet in (junk, head + junk):
        identifier_of(packet)
        try:
            decode_reply(packet, 7, ASKED)
        except MalformedReply:
            continue


def reply(records: bytes, answers: int, authorities: int = 0, flags: int = 0x8180) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, 1, answers, authorities, 0) + ASKED + records


def address_record(octets: str = "127.0.0.2", owner: bytes = b"\xc0\x0c", ttl: int = 60) -> bytes:
    return owner + struct.pack("!HHIH", 1, 1, ttl, 4) + ipaddress.IPv4Address(octets).packed


def test_a_reply_is_taken_only_for_its_own_question() -> None:
    good = reply(address_record(), 1)
    assert decode_reply(good, 7, ASKED) == Reply(0, False, (b"\x7f\0\0\2",), 60)
    assert decode_reply(good, 8, ASKED) is None, "another id"
    other = question(reversed_labels("127.0.0.2"), zone_labels("bl.examplf"))
    assert decode_reply(good, 7, other) is None, "another name"
    assert decode_reply(reply(address_record(), 1, flags=0x0180), 7, ASKED) is None, "a query"
    assert decode_reply(reply(address_record(), 1, flags=0xA980), 7, ASKED) is None, "another operation"
    assert decode_reply(good[:11], 7, ASKED) is None, "no header"
    assert decode_reply(struct.pack("!HHHHHH", 7, 0x8180, 0, 0, 0, 0), 7, ASKED) is None, "no question"


def test_what_is_remembered_of_replies_is_bounded_and_stays_right() -> None:
    for ttl in (*range(2 * MAX_REMEMBERED + 1), 0, MAX_REMEMBERED):
        read = decode_reply(reply(address_record(ttl=ttl), 1), 7, ASKED)
        assert read == Reply(0, False, (b"\x7f\0\0\2",), ttl)
    assert len(message._remembered) <= MAX_REMEMBERED


def test_another_type_in_the_question_is_another_question() -> None:
    end = 12 + len(ASKED)
    good = reply(address_record(), 1)
    text = good[: end - 4] + b"\0\x10\0\1" + good[end:]
    assert decode_reply(text, 7, ASKED) is None


def test_letters_of_the_question_may_come_back_in_another_case() -> None:
    shouted = reply(address_record(), 1).replace(b"example", b"EXAMPLE")
    read = decode_reply(shouted, 7, ASKED)
    assert read is not None
    assert read.addresses == (b"\x7f\0\0\2",)


def test_an_address_of_another_name_is_no_answer() -> None:
    read = decode_reply(reply(address_record(owner=b"\5other\0"), 1), 7, ASKED)
    assert read == Reply(0, False, (), None)


def test_a_truncated_reply_says_so_and_nothing_else() -> None:
    assert decode_reply(reply(b"\xc0", 4000, flags=0x8380), 7, ASKED) == Reply(0, True, (), None)


@pytest.mark.parametrize(
    "records",
    [
        b"\xc0" + bytes((12 + len(ASKED),)) + address_record()[2:],  # points at itself
        b"\xc0" + bytes((14 + len(ASKED),)) + address_record()[2:],  # points forward
        b"\x40" + address_record()[2:],  # a label of an unknown kind
        (b"\x3f" + b"x" * 63) * 5 + b"\0" + address_record()[2:],  # a name of 321 bytes
        address_record()[:-1],
        address_record()[:5],
        b"\xc0",
        b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 65535) + b"\x7f\0\0\2",
        b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 3) + b"\x7f\0\0",
        b"\xc0\x0c"
        + struct.pack("!HHIH", 5, 1, 60, 4)
        + b"\xc0\x0c\0\0",  # an alias that is longer than its name
        b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, 2) + b"\xc0\x0c",  # an alias of itself
    ],
)
def test_what_lies_about_its_length_or_leads_nowhere_is_malformed(records: bytes) -> None:
    with pytest.raises(MalformedReply):
        decode_reply(reply(records, 1), 7, ASKED)


def test_a_name_that_exists_not_has_no_address() -> None:
    with pytest.raises(MalformedReply):
        decode_reply(reply(address_record(), 1, flags=0x8183), 7, ASKED)


def test_thousands_of_records_are_refused_before_they_are_read() -> None:
    few = decode_reply(reply(address_record() * MAX_RECORDS, MAX_RECORDS), 7, ASKED)
    assert few is not None
    assert few.addresses == (b"\x7f\0\0\2",)
    with pytest.raises(MalformedReply, match="4000 records"):
        decode_reply(reply(address_record() * 4000, 4000), 7, ASKED)


def test_the_dearest_reply_takes_less_than_a_tenth_of_a_second() -> None:
    """Names of 127 labels, each reached by a chain of pointers, in as many records as are read."""
    names = b"".join(b"\1x" for _ in range(110)) + b"\0"
    start = 12 + len(ASKED)
    records = names + address_record()[2:]
    pointer = struct.pack("!H", 0xC000 | start)
    records += b"".join(address_record(owner=pointer) for _ in range(MAX_RECORDS - 1))
    began = time.process_time()
    assert decode_reply(reply(records, MAX_RECORDS), 7, ASKED) is not None
    assert time.process_time() - began < 0.1


def test_a_ttl_with_its_highest_bit_set_is_zero() -> None:
    read = decode_reply(reply(address_record(ttl=0x8000_0001), 1), 7, ASKED)
    assert read is not None
    assert read.ttl == 0
