"""The parts of a ScreeningPolicy on a pod's room: connections, stress, passes. Conventions as in `model`."""

from typing import Annotated, ClassVar

from pydantic import Field, Strict

from postwarden_operator.policy.cross_field import STRESS_RULES
from postwarden_operator.policy.formats import Ttl
from postwarden_operator.policy.part import CrossFieldRule, Part

MOST_CONNECTIONS = 100_000
"""Of one pod: more than it has descriptors."""

Prefix4 = Annotated[int, Strict(), Field(ge=8, le=32)]
Prefix6 = Annotated[int, Strict(), Field(ge=16, le=128)]
Percent = Annotated[int, Strict(), Field(ge=1, le=100)]


class ClientPrefix(Part):
    """By how much of their addresses clients are told apart."""

    ipv4: Prefix4 = 32
    """Bits of an IPv4 address."""
    ipv6: Prefix6 = 64
    """Bits of an IPv6 address: whoever has one address has a /64 of them."""


class Limits(Part):
    """How many connections a pod takes."""

    connections_per_client: Annotated[int, Strict(), Field(ge=0, le=MOST_CONNECTIONS)] = 50
    """Of one client at a time; 421 for more. 0 is no limit."""
    screening: Annotated[int, Strict(), Field(ge=1, le=MOST_CONNECTIONS)] = 1000
    """In the sidecar's own hands at a time; 421 for more."""
    upstream: Annotated[int, Strict(), Field(ge=1, le=MOST_CONNECTIONS)] = 100
    """Waiting at a time for the mail server to take them; 421 for more."""
    client_prefix: ClientPrefix = Field(default_factory=ClientPrefix)
    """By how much of their addresses clients are told apart."""


class Stress(Part):
    """When the sidecar is short of room."""

    RULES: ClassVar[tuple[CrossFieldRule, ...]] = STRESS_RULES

    enter_percent: Percent = 90
    """Stress begins when so much of limits.screening is taken."""
    leave_percent: Percent = 70
    """Stress ends when so much of it is taken, or less."""


class KeyPrefix(Part):
    """By how much of a client's address a pass is kept."""

    ipv4: Prefix4 = 32
    """Bits of an IPv4 address; 24 lets a large sender's machines share their passes."""
    ipv6: Prefix6 = 128
    """Bits of an IPv6 address."""


class Cache(Part):
    """How passes are kept."""

    retention: Ttl = "168h"
    """How long an expired pass is kept: its client counts as old."""
    key_prefix: KeyPrefix = Field(default_factory=KeyPrefix)
    """By how much of a client's address its pass is kept. What DNS lists said is always kept by the whole address."""
