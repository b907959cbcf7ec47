"""IPv4 and IPv6 networks as text.

Contract: stricter than Python's ipaddress, so that it agrees with CEL's isIP and isCIDR: no netmasks, no leading zeros, no zones,
no IPv4-mapped IPv6; and host bits must be zero, which CEL does not see. A bare address is a network of one. Every refusal says which
network was probably meant. IPv4 does not go through ipaddress at all: lists have a million lines, and this is five times as fast.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network
from typing import NamedTuple

from postwarden_operator.policy.text_format import quoted

LONGEST_NETWORK_TEXT = 43
"""Characters: 39 of an IPv6 address written out, `/128`."""

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}(?:/(3[0-2]|[12]?[0-9]))?")
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4-mapped addresses: RFC 4291, section 2.5.5.2."""


class Network(NamedTuple):
    """version: 4 or 6. first and last address as numbers, both inclusive."""

    version: int
    first: int
    last: int


class NotANetwork(ValueError):
    """The text is no network as we read it; str() is one sentence without a full stop."""


def parse_network(text: str) -> Network:
    """`10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32`. Raises NotANetwork."""
    match = _IPV4.fullmatch(text)
    if match is None:
        return _parse_ipv6(text)
    a, b, c, d, prefix = match.groups()
    first = int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
    host_mask = 0xFFFFFFFF >> int(prefix) if prefix else 0
    if first & host_mask:
        raise NotANetwork(
            f"{text} has host bits set; did you mean {IPv4Address(first & ~host_mask)}/{prefix}?"
        )
    return Network(4, first, first | host_mask)


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
    if parsed in _MAPPED and length >= _MAPPED.prefixlen:
        raise NotANetwork(_mapped_problem(text, parsed, length - _MAPPED.prefixlen))
    first = int(parsed)
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
