"""The reader of DNS replies: no bytes break it, it takes little time, and where dnspython accepts the reply too, it says the same."""

from __future__ import annotations

import ipaddress

import dns.message
import dns.rdatatype
from postwarden_sidecar.dns.message import (
    MAX_RECORDS,
    NOERROR,
    NXDOMAIN,
    MalformedReply,
    decode_reply,
    identifier_of,
    question,
    reversed_labels,
    zone_labels,
)

from fuzz_targets.choices import Choices

ASKED = (
    question(reversed_labels("127.0.0.2"), zone_labels("bl.example")),
    question(reversed_labels("2001:db8::1"), zone_labels("a.very.long.zone.example")),
)
IDENTIFIER = 0x0707


def fuzz(data: bytes) -> None:
    """The first byte: which question, and whether the bytes are a whole message or what stands behind our question in one."""
    choices = Choices(data)
    kind = choices.byte()
    asked = ASKED[kind & 1]
    if kind & 2:
        flags, counts = choices.byte() << 8 | choices.byte(), choices.byte() | choices.byte() << 8
        head = IDENTIFIER.to_bytes(2) + (flags | 0x8000 if kind & 4 else 0x8180).to_bytes(2) + b"\0\1"
        packet = (
            head + (counts & 0xFF).to_bytes(2) + (counts >> 8).to_bytes(2) + b"\0\0" + asked + choices.rest()
        )
    else:
        packet = choices.rest()
    identifier_of(packet)
    try:
        reply = decode_reply(packet, IDENTIFIER, asked)
    except MalformedReply as error:
        assert len(str(error)) < 200
        return
    if reply is None:
        return
    assert len(reply.addresses) <= MAX_RECORDS
    assert all(len(address) == 4 for address in reply.addresses)
    assert reply.ttl is None or 0 <= reply.ttl < 2**31
    assert not (reply.truncated and reply.addresses)
    if not reply.truncated and reply.rcode in (NOERROR, NXDOMAIN):
        compare(packet, reply.addresses, reply.ttl)


def compare(packet: bytes, addresses: tuple[bytes, ...], ttl: int | None) -> None:
    """With what dnspython makes of it. It refuses much that we have no use for; that says nothing."""
    try:
        read = dns.message.from_wire(packet, ignore_trailing=True)
        assert isinstance(read, dns.message.QueryMessage)
        chain = read.resolve_chaining()
    except Exception:
        return
    if chain.answer is not None and any(
        rrset.rdtype == dns.rdatatype.CNAME and rrset.name == chain.answer.name for rrset in read.answer
    ):
        return  # an alias that has records of its own is none (RFC 1034, 3.6.2); we go where it leads
    theirs = (
        {record.address for record in chain.answer}
        if chain.answer is not None and chain.answer.rdtype == dns.rdatatype.A
        else set()
    )
    assert {str(ipaddress.IPv4Address(address)) for address in addresses} == theirs
    if addresses:
        assert ttl is not None
        assert ttl <= chain.minimum_ttl, "kept longer than it holds"
