"""The reply filter of a DNSBL site, in postscreen's notation: `127.0.0.[2..11]`, `127.0.[0;1].[2;4..6]`.

Contract: four octets; each is a number, or a list in brackets of numbers and ranges (both ends inclusive) with semicolons between.
Stricter than postscreen in two things: no number has a leading zero, and the first octet holds 127, for no other answer ever counts.
"""

import re

from postwarden_operator.policy.text_format import quoted

Octets = tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int]]

LOOPBACK = 127
"""The first octet of every answer that means something (RFC 5782, section 2.1)."""

_NUMBER = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ITEM = rf"{_NUMBER}(\.\.{_NUMBER})?"
_OCTET = rf"({_NUMBER}|\[{_ITEM}(;{_ITEM})*\])"
REPLY_FILTER_PATTERN = rf"^{_OCTET}(\.{_OCTET}){{3}}$"

_MARK = re.compile(r"(\.\.|[.\[\]])")
"""What divides octets, or does not: a range's `..`, and a dot inside of brackets."""

_ORDINALS = ("first", "second", "third", "fourth")


class BadReplyFilter(ValueError):
    """str() is one sentence, which names the octet."""


def parse_reply_filter(text: str) -> Octets:
    """The values that each octet may have. Raises BadReplyFilter."""
    octets = _divided(text)
    if len(octets) != 4:
        raise BadReplyFilter(
            f"{quoted(text)} has {len(octets)} octets in place of four; write a filter like 127.0.0.2 or 127.0.0.[2..11]"
        )
    first, second, third, fourth = (
        _values(text, ordinal, octet) for ordinal, octet in zip(_ORDINALS, octets, strict=True)
    )
    if LOOPBACK not in first:
        raise BadReplyFilter(
            f"{quoted(text)}: the first octet must be {LOOPBACK}: answers that are not in 127.0.0.0/8 never count"
        )
    return first, second, third, fourth


def _divided(text: str) -> list[str]:
    octets, inside = [""], False
    for piece in _MARK.split(text):
        if piece == "." and not inside:
            octets.append("")
            continue
        inside = piece == "[" or (inside and piece != "]")
        octets[-1] += piece
    return octets


def _values(text: str, ordinal: str, octet: str) -> frozenset[int]:
    problem = f"{quoted(text)}: the {ordinal} octet, {quoted(octet)[1:-1] or 'empty'},"
    bracketed = octet.startswith("[") and octet.endswith("]") and len(octet) > 1
    if not bracketed and ("[" in octet or "]" in octet):
        raise BadReplyFilter(f"{problem} has a bracket without its other half")
    if not bracketed and (".." in octet or ";" in octet):
        raise BadReplyFilter(f"{problem} must stand in brackets, like [2..11] or [2;4..6]")
    values: set[int] = set()
    for item in octet[1:-1].split(";") if bracketed else [octet]:
        low, dots, high = item.partition("..")
        if not all(re.fullmatch(_NUMBER, number) for number in ([low, high] if dots else [low])):
            raise BadReplyFilter(f"{problem} must hold numbers from 0 to 255, like 2, [2..11] or [2;4..6]")
        if dots and int(low) > int(high):
            raise BadReplyFilter(
                f"{problem} has the range {item}, which is empty; did you mean {high}..{low}?"
            )
        values.update(range(int(low), int(high or low) + 1))
    return frozenset(values)


def reply_filter_problem(text: str) -> str | None:
    """What is wrong with the text as a reply filter, or None."""
    try:
        parse_reply_filter(text)
    except BadReplyFilter as error:
        return str(error)
    return None
