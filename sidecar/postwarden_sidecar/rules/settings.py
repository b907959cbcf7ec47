"""The compiled policy as a worker sees it.

Everything is resolved: no defaults are left to fill in, no references to follow. Durations are seconds. The decoder from
the wire is in `controlclient`, the mapped image that supervisor and workers share is in `rules.image`; this file knows neither.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.plain_members import plain_members


@plain_members
class Mode(enum.StrEnum):
    """Observe: every action acts as Ignore, and what would have been done is recorded."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


@plain_members
class Action(enum.StrEnum):
    """What a failed test does (postscreen's ignore, enforce and drop)."""

    IGNORE = "Ignore"
    ENFORCE = "Enforce"
    DROP = "Drop"


@plain_members
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


@plain_members
class EnvelopeAddresses(enum.StrEnum):
    """What is shown of HELO name, sender and recipient in logs and traces."""

    FULL = "Full"
    HASHED = "Hashed"
    OMITTED = "Omitted"


@plain_members
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
class DnsblSite:
    """One zone with one filter. zone: as asked, absolute, the key of a Secret in it already; it is shown to nobody. template: the zone as
    the policy has it (`{key}` not replaced), for logs, traces and status. replies: the filter, four octets, each the set of its allowed
    values; None: all of 127.0.0.0/8 less 127.255.255.0/24. label: the name that clients see."""

    zone: str = field(repr=False)
    template: str
    replies: tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int]] | None
    weight: int
    label: str


@dataclass(frozen=True, slots=True)
class Dnsbl:
    """threshold: inclusive. allow_threshold: negative turns it on. timeout, ttl_min, ttl_max: seconds. resolvers: HOST:PORT; empty: the
    pod's own. No sites: the test is off."""

    action: Action = Action.ENFORCE
    threshold: int = 1
    allow_threshold: int = 0
    timeout: float = 10.0
    ttl_min: float = 60.0
    ttl_max: float = 3600.0
    resolvers: tuple[str, ...] = ()
    sites: tuple[DnsblSite, ...] = ()


@plain_members
class Handover(enum.StrEnum):
    """What becomes of a client that passes the tests after the greeting: its session goes on with the MTA, or it is told to come back."""

    INLINE = "Inline"
    RECONNECT = "Reconnect"


@dataclass(frozen=True, slots=True)
class ProtocolTest:
    """One test after the greeting. ttl: seconds."""

    enabled: bool
    action: Action
    ttl: float = 720 * 3600.0


@dataclass(frozen=True, slots=True)
class Protocol:
    """forbidden_commands: upper case; besides, whatever begins with no letter."""

    pipelining: ProtocolTest = ProtocolTest(False, Action.ENFORCE)
    non_smtp_command: ProtocolTest = ProtocolTest(False, Action.DROP)
    bare_newline: ProtocolTest = ProtocolTest(False, Action.ENFORCE)
    forbidden_commands: tuple[str, ...] = ("CONNECT", "GET", "POST")
    handover: Handover = Handover.INLINE


@dataclass(frozen=True, slots=True)
class Session:
    """Of our own dialogue. Time limits: seconds for a whole command; line_length_limit: bytes without the line's end; a line is shorter.
    reject_footer: "" for none. hidden_extensions: upper case. soft_fail: every 5xx of ours becomes 4xx."""

    command_time_limit: float = 300.0
    stress_command_time_limit: float = 10.0
    command_count_limit: int = 20
    line_length_limit: int = 2048
    hello_required: bool = False
    reject_footer: str = ""
    hidden_extensions: tuple[str, ...] = ()
    soft_fail: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections; per pod. screening: in our hands (pre-queue); upstream: given to the MTA, which has not yet sent its first byte
    (post-queue; `Pass`: not yet closed the control socket). Clients are told apart by prefixes of these lengths, bits. 0: no limit.
    stress_enter, stress_leave: percent of screening."""

    connections_per_client: int = 50
    screening: int = 1000
    upstream: int = 100
    prefix_ipv4: int = 32
    prefix_ipv6: int = 64
    stress_enter: int = 90
    stress_leave: int = 70


@dataclass(frozen=True, slots=True)
class Cache:
    """retention: seconds that an expired pass is kept. Passes are kept by prefixes of these lengths, bits (DNSBL's by exact address)."""

    retention: float = 168 * 3600.0
    prefix_ipv4: int = 32
    prefix_ipv6: int = 128


@dataclass(frozen=True, slots=True)
class SampleRate:
    """Which connections of a verdict (`engine.record.Verdict`'s value) get a trace. percent: of them; per_second: traces at most."""

    verdict: str
    percent: float
    per_second: float


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
    stress_wait: seconds, in place of pregreet.wait under stress; None: the same.
    pass_addresses: local addresses at which a client may earn its pass; None: all.
    exempt_recipients: lower case, `postmaster@`, `abuse@example.com`, `@example.org`.
    sampling: verdicts that are not in it have the default rates.
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
    stress_wait: float | None = None
    pass_addresses: AddressTable | None = None
    dnsbl: Dnsbl = Dnsbl()
    protocol: Protocol = Protocol()
    session: Session = Session()
    limits: Limits = Limits()
    cache: Cache = Cache()
    exempt_recipients: tuple[str, ...] = ()
    sampling: tuple[SampleRate, ...] = ()
    envelope_addresses: EnvelopeAddresses = EnvelopeAddresses.FULL
