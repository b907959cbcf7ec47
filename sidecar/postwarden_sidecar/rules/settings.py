"""The compiled policy as a worker sees it.

Everything is resolved: no defaults are left to fill in, no references to follow. Durations are seconds. The decoder from
the wire is in `controlclient`, the mapped image that supervisor and workers share is in `rules.image`; this file knows neither.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from postwarden_sidecar.rules.intervals import AddressTable


class Mode(enum.StrEnum):
    """Observe: every action acts as Ignore, and what would have been done is recorded."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


class Action(enum.StrEnum):
    """What a failed test does (postscreen's ignore, enforce and drop)."""

    IGNORE = "Ignore"
    ENFORCE = "Enforce"
    DROP = "Drop"


class AccessAction(enum.IntEnum):
    """What a line of an access list says; the numbers are those of the tables' action column on the wire."""

    PERMIT = 1
    REJECT = 2
    DUNNO = 3


class LogFormat(enum.StrEnum):
    """How a connection is logged; the Postscreen formats are in postscreen's words."""

    JSON = "JSON"
    POSTSCREEN = "Postscreen"
    POSTSCREEN_LEGACY = "PostscreenLegacy"


class Handoff(enum.StrEnum):
    """How a client is given to the MTA."""

    PLAIN = "Plain"
    PROXY_V1 = "ProxyV1"
    PROXY_V2 = "ProxyV2"
    PASS = "Pass"  # noqa: S105  (no password)


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """Which policy the rules come from. revision judges status, version decides on resending."""

    namespace: str
    name: str
    uid: str
    generation: int
    revision: str
    version: str


@dataclass(frozen=True, slots=True)
class AccessRule:
    """field: where the policy has the rule (`spec.access.rules[3]`). A DUNNO row ends the search; an address without a row goes
    on with the next rule."""

    field: str
    table: AddressTable


@dataclass(frozen=True, slots=True)
class Access:
    """The access list; my_networks is permitted first, then the rules are asked in order."""

    my_networks: AddressTable
    reject_action: Action
    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True)
class Pregreet:
    """banner: None is the upstream's (not yet learned: no teaser, the wait is kept); "" turns the test off."""

    action: Action
    wait: float
    banner: str | None
    ttl: float


@dataclass(frozen=True, slots=True)
class Upstream:
    """The MTA. target: `HOST:PORT`, `[V6]:PORT` or `unix:PATH`. `Pass` needs a unix socket, the PROXY modes a TCP port or a socket."""

    target: str
    handoff: Handoff


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy in force.

    upstream is None where the policy names none: the start-up setting's is used then. Workers do not read it: they are told the
    upstream that is proved (`ipc.messages.UpstreamInForce`).
    proxy_trusted: from these networks a PROXY header is required and believed; proxy_timeout: seconds to wait for it.
    hostname: our name in replies; None is the upstream's.
    """

    policy: PolicyRef
    mode: Mode
    access: Access
    pregreet: Pregreet
    upstream: Upstream | None
    proxy_trusted: AddressTable
    proxy_timeout: float
    hostname: str | None
    log_format: LogFormat
