"""Enums whose members are plain attributes of the class, as Python 3.12 has them.

Python 3.11 finds `Mode.OBSERVE` by a function written in Python, at ten times the price of an attribute; a client has some fifty of
these look-ups from accept to its record. In later versions the decorator changes nothing.
"""

from __future__ import annotations

import enum
from typing import TypeVar

_Enum = TypeVar("_Enum", bound=enum.Enum)


def plain_members(cls: type[_Enum]) -> type[_Enum]:
    """Decorator of an enum."""
    for member in cls:
        type.__setattr__(cls, member.name, member)  # EnumType's own would take it for a change of the member
    return cls
