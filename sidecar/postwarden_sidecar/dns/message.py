"""DNS messages for one purpose: ask a list about an address, read the answer (RFC 1035, 2308, 5782, 6891).

Only what a look-up needs is read, and no length is trusted. Why not dnspython, which is the oracle of the tests: building a
query and reading its reply takes it 280 us (measured; this takes 3 us), and a worker asks several lists about each new client.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import Final, NamedTuple

UDP_PAYLOAD = 1232  # bytes that we take by UDP: what passes without fragments nearly everywhere (DNS flag day 2020; design)
MAX_RECORDS = 256  # read of one message; a list answers with a handful, and more would only cost time
MAX_CHAIN = 16  # CNAMEs followed; resolvers themselves stop at about as many
MAX_NAME = 255  # bytes on the wire (RFC 1035, section 2.3.4)
MAX_LABEL = 63

NOERROR, NXDOMAIN = 0, 3

_A, _CNAME, _SOA, _OPT = 1, 5, 6, 41
_IN = 1
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TYPE_CLASS = struct.pack("!HH", _A, _IN)
_RECURSION_DESIRED = 0x0100
_RESPONSE, _TRUNCATED, _OPCODE, _RCODE = 0x8000, 0x0200, 0x7800, 0x000F
_OPT_RECORD = b"\0" + _RECORD.pack(_OPT, UDP_PAYLOAD, 0, 0)
_QUERY = _HEADER.pack(0, _RECURSION_DESIRED, 1, 0, 0, 1)[2:]  # the header behind the id
_TO_QUESTION = b"\xc0\x0c"  # the usual owner of an answer: a pointer to the question's name
_ADDRESS = struct.Struct(
    "!6sIH4s"
)  # a whole record as lists send it: owner, type and class, TTL, length, address
_HEADER_SIZE: Final = 12  # bytes, of _HEADER
_ADDRESS_SIZE: Final = 16  # bytes, of _ADDRESS
MAX_QUESTION = MAX_NAME + len(_TYPE_CLASS)
_NUMBER = struct.Struct("!I")
_OWN_ADDRESS = _TO_QUESTION + _TYPE_CLASS
MAX_REMEMBERED = (
    1024  # replies of the common kind; a list has a handful of addresses, and a TTL that a cache counts down
)


class MalformedReply(ValueError):
    """The reply to our question can't be read; the message says what is wrong with it."""


class Reply(NamedTuple):
    """What a resolver said. addresses: A records of the name asked for, or of what it is an alias of, four octets each. ttl: seconds:
    the lowest of the records used, or of a negative answer's SOA; None: not said. truncated: ask again by TCP; nothing else was read."""

    rcode: int
    truncated: bool
    addresses: tuple[bytes, ...]
    ttl: int | None


# What lists say of those they have, by all that it is read from: the header behind the id, and one record. They say the same of most.
_remembered: dict[bytes, Reply] = {}


@lru_cache(maxsize=1024)
def zone_labels(zone: str) -> bytes:
    """The zone's name as on the wire; always absolute, with or without a dot at its end. Raises ValueError."""
    try:
        labels = zone.removesuffix(".").encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise ValueError("a zone's name is ASCII") from None
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise ValueError(f"a label has 1 to {MAX_LABEL} bytes")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} bytes")
    return wire


_OCTETS = {
    str(octet): bytes((len(str(octet)),)) + str(octet).encode("ascii") for octet in range(256)
}  # as labels


def reversed_labels(address: str) -> bytes:
    """The client's part of the name: the octets of an IPv4 address in reverse, the 32 nibbles of an IPv6 address (RFC 5782, section
    2). Raises ValueError."""
    if ":" not in address:
        try:
            first, second, third, fourth = address.split(".")
            return _OCTETS[fourth] + _OCTETS[third] + _OCTETS[second] + _OCTETS[first]
        except (KeyError, ValueError):
            raise ValueError("no IPv4 address") from None
    nibbles = ipaddress.IPv6Address(address).packed.hex()
    return b"".join(b"\1" + nibble.encode() for nibble in reversed(nibbles))


def question(client: bytes, zone: bytes) -> bytes:
    """The question section: client of `reversed_labels`, zone of `zone_labels`. Raises ValueError if the name is too long."""
    asked = client + zone + _TYPE_CLASS
    if len(asked) > MAX_QUESTION:
        raise ValueError(f"a name has at most {MAX_NAME} bytes")
    return asked


def encode_query(identifier: int, asked: bytes) -> bytes:
    """A query with recursion and EDNS; identifier: 16 random bits; asked: of `question`."""
    return identifier.to_bytes(2, "big") + _QUERY + asked + _OPT_RECORD


def identifier_of(packet: bytes) -> int | None:
    """Whose reply it may be; None: too short for a message."""
    return packet[0] << 8 | packet[1] if len(packet) >= _HEADER_SIZE else None


def decode_reply(packet: bytes, identifier: int, asked: bytes) -> Reply | None:
    """Read a reply. None: it is none to this question (another id, another question, no reply): it may be forged, so that the right
    one is still to be waited for. Raises MalformedReply."""
    if len(packet) < _HEADER_SIZE:
        return None
    end = _HEADER_SIZE + len(asked)
    said = packet[2:_HEADER_SIZE] + packet[end : end + _ADDRESS_SIZE]
    known = _remembered.get(said)
    question_is_ours = packet[_HEADER_SIZE:end] == asked
    if known is not None and question_is_ours and packet[0] << 8 | packet[1] == identifier:
        return known
    number, flags, questions, answers, authorities, _ = _HEADER.unpack_from(packet)
    if number != identifier or questions != 1 or flags & (_RESPONSE | _OPCODE) != _RESPONSE:
        return None
    # A label's length is below 'A', so that case is folded in letters only.
    if not question_is_ours and packet[_HEADER_SIZE:end].lower() != asked.lower():
        return None
    rcode = flags & _RCODE
    if flags & _TRUNCATED:
        return Reply(rcode, True, (), None)
    if answers == 1 and rcode == NOERROR and len(packet) >= end + _ADDRESS_SIZE:
        begin, ttl, size, address = _ADDRESS.unpack_from(packet, end)
        if begin == _OWN_ADDRESS and size == 4:  # what lists say; `_read` would find the same
            if len(_remembered) >= MAX_REMEMBERED:
                _remembered.clear()
            reply = _remembered[said] = Reply(NOERROR, False, (address,), _seconds(ttl))
            return reply
    elif rcode not in (NOERROR, NXDOMAIN):
        return Reply(rcode, False, (), None)
    try:
        return _read(packet, asked, rcode, answers, authorities)
    except (IndexError, struct.error):
        raise MalformedReply("it ends too early") from None


def _read(packet: bytes, asked: bytes, rcode: int, answers: int, authorities: int) -> Reply:
    if answers + authorities > MAX_RECORDS:
        raise MalformedReply(f"it has {answers + authorities} records")
    at = _HEADER.size + len(asked)
    asked_for = asked[: -len(_TYPE_CLASS)].lower()
    if not answers:
        return Reply(rcode, False, (), _negative_ttl(packet, at, authorities, asked_for))
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    aliases: dict[bytes, tuple[bytes, int]] = {}
    for _ in range(answers):
        owner, at = (asked_for, at + 2) if packet[at : at + 2] == _TO_QUESTION else _name(packet, at)
        kind, group, ttl, size = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        end = at + size
        if end > len(packet):
            raise MalformedReply("a record is longer than the message")
        if group == _IN and kind == _A:
            if size != 4:
                raise MalformedReply("an address has not four octets")
            found.setdefault(owner, []).append((packet[at:end], _seconds(ttl)))
        elif group == _IN and kind == _CNAME:
            target, read_to = _name(packet, at)
            if read_to != end:
                raise MalformedReply("an alias has a wrong length")
            aliases.setdefault(owner, (target, _seconds(ttl)))
        at = end
    name, lowest = _follow(asked_for, aliases)
    records = found.get(name)
    if not records:
        negative = _negative_ttl(packet, at, authorities, name)
        known = [ttl for ttl in (lowest, negative) if ttl is not None]
        return Reply(rcode, False, (), min(known) if negative is not None else None)
    if rcode == NXDOMAIN:
        raise MalformedReply("it has an answer for a name that it says does not exist")
    ttls = [ttl for _, ttl in records]
    ttl = min(ttls) if lowest is None else min(lowest, *ttls)
    return Reply(rcode, False, tuple(dict.fromkeys(address for address, _ in records)), ttl)


def _follow(name: bytes, aliases: dict[bytes, tuple[bytes, int]]) -> tuple[bytes, int | None]:
    """Where the name leads, and the lowest TTL on the way."""
    lowest: int | None = None
    for _ in range(MAX_CHAIN):
        if name not in aliases:
            return name, lowest
        name, ttl = aliases[name]
        lowest = ttl if lowest is None else min(lowest, ttl)
    raise MalformedReply("its aliases do not end")


def _negative_ttl(packet: bytes, at: int, authorities: int, name: bytes) -> int | None:
    """How long 'not listed' holds: the lower one of the SOA's TTL and its MINIMUM (RFC 2308, section 5)."""
    for _ in range(authorities):
        owner_at, at = at, _behind_name(packet, at)
        kind, group, ttl, size = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        end = at + size
        if end > len(packet):
            raise MalformedReply("a record is longer than the message")
        if kind == _SOA and group == _IN and _is_of(packet, owner_at, name):
            if _behind_name(packet, _behind_name(packet, at)) + 20 != end:  # two names, five numbers
                raise MalformedReply("an SOA has a wrong length")
            (minimum,) = _NUMBER.unpack_from(packet, end - 4)
            return min(_seconds(ttl), _seconds(minimum))
        at = end
    return None


def _behind_name(packet: bytes, at: int) -> int:
    """Where the name at this place ends; where its pointer leads is not looked at."""
    while size := packet[at]:
        if size >= 0xC0:
            return at + 2
        if size > MAX_LABEL:
            raise MalformedReply("a label of no known kind")
        at += size + 1
    return at + 1


def _is_of(packet: bytes, at: int, name: bytes) -> bool:
    """Whether the owner at this place is the name, which is the question's or an alias's, or is above it."""
    if packet[at] >= 0xC0:
        target = (packet[at] & 0x3F) << 8 | packet[at + 1]
        if (
            target < _HEADER.size + len(name)
            and packet[_HEADER.size : _HEADER.size + len(name)].lower() == name
        ):
            label = _HEADER.size  # as most say it: a label of the question
            while label < target:
                label += packet[label] + 1
            if label == target:
                return True
    return _is_within(name, _name(packet, at)[0])


def _is_within(name: bytes, zone: bytes) -> bool:
    """Both as on the wire, in lower case."""
    at = 0
    while len(name) - at > len(zone):
        at += name[at] + 1
    return name[at:] == zone


def _seconds(ttl: int) -> int:
    """A TTL with its highest bit set is zero (RFC 2181, section 8)."""
    return ttl if ttl < 0x8000_0000 else 0


def _name(packet: bytes, at: int) -> tuple[bytes, int]:
    """The name at this place, without compression and in lower case, and where it ends. A pointer leads to before where it is, and
    before every pointer that led there: so it ends."""
    labels: list[bytes] = []
    length, end, bound = 1, -1, at
    while True:
        size = packet[at]
        if size == 0:
            return b"".join(labels).lower() + b"\0", at + 1 if end < 0 else end
        if size >= 0xC0:
            target = (size & 0x3F) << 8 | packet[at + 1]
            if end < 0:
                end = at + 2
            if target >= bound:
                raise MalformedReply("a name points forward")
            bound = at = target
            continue
        if size > MAX_LABEL:
            raise MalformedReply("a label of no known kind")
        length += size + 1
        if length > MAX_NAME:
            raise MalformedReply("a name is too long")
        label = packet[at : at + size + 1]
        if len(label) <= size:
            raise MalformedReply("it ends too early")
        labels.append(label)
        at += size + 1
