"""IPv4 and IPv6 networks as text.

Contract: stricter than Python's ipaddress, so that it agrees with CEL's isIP and isCIDR: no netmasks, no leading zeros, no zones,
no IPv4-mapped IPv6; and host bits must be zero, which CEL does not see. A bare address is a network of one. Every refusal says which
network was probably meant. IPv4 does not go through ipaddress at all: lists have a million lines, and looking octets up in dictionaries
takes a tenth of its time.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from postwarden_operator.policy.text_format import quoted

LONGEST_NETWORK_TEXT = 43
"""Characters: 39 of an IPv6 address written out, `/128`."""

_FIRST, _SECOND, _THIRD, _FOURTH = (
    {str(octet): octet << shift for octet in range(256)} for shift in (24, 16, 8, 0)
)
_HOST_MASKS = {str(length): 0xFFFFFFFF >> length for length in range(33)}
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED, _MAPPED_LENGTH = 0xFFFF, 96
"""IPv4-mapped addresses, `::ffff:0:0/96`: RFC 4291, section 2.5.5.2."""


class Network(NamedTuple):
    """version: 4 or 6. first and last address as numbers, both inclusive."""

    version: int
    first: int
    last: int


class NotANetwork(ValueError):
    """The text is no network as we read it; str() is one sentence without a full stop."""


def parse_ipv4(text: str) -> tuple[int, int] | None:
    """First and last address of `192.0.2.0/24` or `192.0.2.1`. None for what is no IPv4 network, and for host bits."""
    try:
        a, b, c, rest = text.split(".")
        d, slash, length = rest.partition("/")
        host_mask = _HOST_MASKS[length] if slash else 0
        first = _FIRST[a] | _SECOND[b] | _THIRD[c] | _FOURTH[d]
    except (KeyError, ValueError):
        return None
    return None if first & host_mask else (first, first | host_mask)


def parse_network(text: str) -> Network:
    """`10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32`. Raises NotANetwork."""
    ends = parse_ipv4(text)
    if ends is not None:
        return Network(4, *ends)
    address, _, length = text.partition("/")
    if length in _HOST_MASKS and (parsed := parse_ipv4(address)) is not None:
        meant = IPv4Address(parsed[0] & ~_HOST_MASKS[length])
        raise NotANetwork(f"{text} has host bits set; did you mean {meant}/{length}?")
    return _parse_ipv6(text)


def _parse_ipv6(text: str) -> Network:
    address, slash, prefix = text.partition("/")
    try:
        if "%" in address or (slash and not _PREFIX.fullmatch(prefix)):
            raise AddressValueError
        parsed = IPv6Address(address)
        length = int(prefix) if slash else 128
        if length > 128:
            raise AddressValueError
    except AddressValueError:
        raise NotANetwork(
            f"{quoted(text)} is neither an address nor a network; write one like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    first = int(parsed)
    if first >> 32 == _MAPPED and length >= _MAPPED_LENGTH:
        raise NotANetwork(_mapped_problem(text, parsed, length - _MAPPED_LENGTH))
    host_mask = (1 << (128 - length)) - 1
    if first & host_mask:
        raise NotANetwork(
            f"{text} has host bits set; did you mean {IPv6Address(first & ~host_mask)}/{length}?"
        )
    return Network(6, first, first | host_mask)


def _mapped_problem(text: str, mapped: IPv6Address, length: int) -> str:
    network = IPv4Address(int(mapped) & 0xFFFFFFFF & ~(0xFFFFFFFF >> length if length < 32 else 0))
    meant = str(network) if length == 32 else f"{network}/{length}"
    return f"{text} is IPv4 written as IPv6; did you mean {meant}?"


def network_problem(text: str) -> str | None:
    """What is wrong with the text as a network, or None."""
    try:
        parse_network(text)
    except NotANetwork as error:
        return str(error)
    return None
