"""What a JSON line is made of: structs that msgspec encodes, with the attributes' keys as names. `telemetry.logs` fills them.

A module of its own, because fields with names of their own can't be compiled (docs/performance.md), and filling them can.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType, field


# Keys in this order. What is UNSET, or has its default, is left out. They are made by position: by name takes three times as long.
class Test(msgspec.Struct, gc=False):
    """What one test said."""

    test: str
    outcome: str
    action: str | UnsetType
    detail: str | UnsetType
    start: float
    end: float


class Lookup(msgspec.Struct, gc=False):
    """One DNSBL look-up."""

    zone: str
    outcome: str
    start: float
    end: float


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """What happened. offset: seconds since the connection began."""

    event: str
    offset: float
    text: str = ""
    sender: str = ""
    recipient: str = ""
    helo: str = ""
    proto: str = ""
    count: int = 0


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """All of a connection."""

    time: str
    duration: float
    trace_id: str | UnsetType
    span_id: str | UnsetType
    client_address: str = field(name="client.address")
    client_port: int = field(name="client.port")
    server_address: str = field(name="server.address")
    server_port: int = field(name="server.port")
    peer_address: str = field(name="network.peer.address")
    peer_port: int = field(name="network.peer.port")
    transport: str = field(name="network.transport")
    protocol: str = field(name="network.protocol.name")
    error_type: str | UnsetType = field(name="error.type")
    verdict: str = field(name="postwarden.verdict")
    reason: str = field(name="postwarden.reason", default="")
    test: str = field(name="postwarden.test", default="")
    action: str = field(name="postwarden.action", default="")
    dnsbl_score: int | None = field(name="postwarden.dnsbl.score", default=None)
    would: str = field(name="postwarden.would", default="")
    handoff: str = field(name="postwarden.handoff", default="")
    policy_name: str = field(name="postwarden.policy.name", default="")
    policy_namespace: str = field(name="postwarden.policy.namespace", default="")
    policy_revision: str = field(name="postwarden.policy.revision", default="")
    helo: str = field(name="postwarden.helo", default="")
    sender: str | UnsetType = field(name="postwarden.sender", default=UNSET)  # "": the null sender
    recipient: str = field(name="postwarden.recipient", default="")
    tests: list[Test] = field(name="postwarden.tests", default_factory=list)
    lookups: list[Lookup] = field(name="postwarden.lookups", default_factory=list)
    events: list[Event] = field(name="postwarden.events", default_factory=list)
    events_lost: int = field(name="postwarden.events_lost", default=0)
