"""Single values of a Snapshot, read strictly: what is missing or unknown is refused with its path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Enum = TypeVar("_Enum", bound=int)
_Value = TypeVar("_Value")


class Undecodable(Exception):
    """The snapshot can't be put in force; the message says why in one sentence."""


def known(field: str, number: _Enum, names: Mapping[_Enum, _Value]) -> _Value:
    """What an enum's number stands for. Raises Undecodable."""
    try:
        return names[number]
    except KeyError:
        raise Undecodable(f"{field} has the unknown value {number}") from None


def seconds(field: str, milliseconds: int) -> float:
    """A duration that must be there. Raises Undecodable."""
    if milliseconds == 0:
        raise Undecodable(f"{field} is missing")
    return milliseconds / 1000


def bits(field: str, length: int, most: int) -> int:
    """The length of an address's prefix. Raises Undecodable."""
    if not 1 <= length <= most:
        raise Undecodable(f"{field} is {length}, which is no length of a prefix")
    return length
