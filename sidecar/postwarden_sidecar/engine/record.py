"""One record a connection: all that logs, traces and metrics say of it.

The engine writes it, `ipc` carries it, `telemetry` renders it. Texts are the client's own bytes decoded as latin-1 (each character
one byte), bounded by the engine; they are escaped where they are shown, not here. A record encodes to at most 4 KiB.

Structs of msgspec, that travel as arrays: next to dataclasses as maps, making one costs half, encoding a quarter, decoding
under a half, and the packet is less than half as large (docs/performance.md). The order of the fields is that on the wire, within one
release: worker and supervisor are of the same. gc=False: nothing here refers back to what holds it.
"""

from __future__ import annotations

import enum

import msgspec

from postwarden_sidecar.rules.plain_members import plain_members

MAX_TEXT = 200  # characters of any text from a client that are kept; postscreen keeps 100 to 150 in its own log lines
MAX_EVENTS = 12  # events kept a connection; the rest is counted in `events_lost`


@plain_members
class Verdict(enum.StrEnum):
    """Exactly one a connection."""

    ALLOWLISTED = "allowlisted"
    PASS_OLD = "pass_old"  # noqa: S105  (no password)
    PASS_NEW = "pass_new"  # noqa: S105
    TOLERATED = "tolerated"  # failed a test whose action is Ignore
    EXEMPTED = "exempted"
    UNSCREENED = "unscreened"  # no rules, or no test is on
    REJECTED = "rejected"  # under Enforce
    DROPPED = "dropped"
    HANGUP = "hangup"
    DEFERRED = "deferred"  # the hand-off failed, or no rules and bootstrap says Defer, or draining
    OVERLOADED = "overloaded"
    ERROR = "error"


@plain_members
class EventKind(enum.StrEnum):
    """What happened, in postscreen's vocabulary; `telemetry.postscreen` has the words."""

    CONNECT = "connect"
    ALLOWLISTED = "allowlisted"
    DENYLISTED = "denylisted"
    PASS_OLD = "pass_old"  # noqa: S105
    PASS_NEW = "pass_new"  # noqa: S105
    PREGREET = "pregreet"  # text: what the client said; count: bytes seen
    HANGUP = "hangup"  # text: "before" or "after" (the SMTP handshake)
    VETO = "veto"  # connected to an address where no pass is earned
    DNSBL = "dnsbl"  # count: the score
    COMMAND_PIPELINING = "command_pipelining"  # command: the command's name; text: what waited behind it
    NON_SMTP_COMMAND = "non_smtp_command"  # command: the command before; text: the line
    BARE_NEWLINE = "bare_newline"  # text: the line
    TOO_MANY_CONNECTIONS = "too_many_connections"  # of this client
    SERVER_PORTS_BUSY = "server_ports_busy"  # limits.upstream
    SCREENING_PORTS_BUSY = "screening_ports_busy"  # limits.screening
    REJECT = "reject"  # text: our reply; sender, recipient, helo, proto: of that moment
    COMMAND_TIME_LIMIT = "command_time_limit"  # text: the last command
    COMMAND_COUNT_LIMIT = "command_count_limit"
    COMMAND_LENGTH_LIMIT = "command_length_limit"
    DATA_WITHOUT_RCPT = "data_without_rcpt"  # text: DATA or BDAT
    HANDOFF_FAILED = "handoff_failed"  # text: HandoffOutcome's value
    DISCONNECT = "disconnect"


class Event(msgspec.Struct, array_like=True, gc=False):
    """offset: seconds since the connection began."""

    kind: EventKind
    offset: float
    text: str = ""
    count: int = 0
    sender: str = ""
    recipient: str = ""
    helo: str = ""
    proto: str = ""
    command: str = ""


class TestResult(msgspec.Struct, array_like=True, gc=False):
    """What one test said. outcome: pass | fail | unknown (could not be run; never counts against the client)."""

    __test__ = False  # no test class of pytest's

    test: str  # access, pregreet, dnsbl, pipelining, non_smtp_command, bare_newline
    outcome: str
    action: str  # Ignore, Enforce, Drop, or "" for a pass; as acted upon (Observe turns all to Ignore)
    start: float = 0.0  # seconds since the connection began
    end: float = 0.0
    detail: str = ""  # access: the rule's field and line; dnsbl: the score


class Lookup(msgspec.Struct, array_like=True, gc=False):
    """One DNSBL look-up. zone: the policy's template, never with a key. start, end: seconds since the connection began; start is negative
    where the look-up of an earlier connection of this client was shared."""

    zone: str
    outcome: str  # dns.outcome.Outcome's value
    start: float
    end: float


class Record(msgspec.Struct, array_like=True, gc=False):
    """started: epoch seconds; duration: seconds up to the verdict or the hand-off. would: the verdict that Enforce would have given
    (mode Observe), else "". helo, sender, recipient: the last seen in our own dialogue. envelope: what may be shown of them
    (`rules.settings.EnvelopeAddresses`; "" is Full); envelope_key: for their hashes, where they are to be shown so."""

    started: float
    duration: float
    verdict: Verdict
    reason: str  # one sentence for a person
    client_address: str
    client_port: int
    server_address: str
    server_port: int
    peer_address: str
    peer_port: int
    proxied: bool
    test: str = ""  # the test that decided
    action: str = ""
    would: str = ""
    policy_namespace: str = ""
    policy_name: str = ""
    policy_revision: str = ""
    handoff: str = ""  # Plain, ProxyV1 …: how it was handed over; "" if not
    dialog_start: float = -1.0  # offset when our SMTP dialogue began; -1: it did not
    handoff_start: float = -1.0
    helo: str = ""
    proto: str = ""  # SMTP or ESMTP once HELO or EHLO was said
    sender: str = ""
    recipient: str = ""
    tests: list[TestResult] = []
    events: list[Event] = []
    events_lost: int = 0
    lookups: list[Lookup] = []
    envelope: str = ""
    envelope_key: str = ""


class Visit(msgspec.Struct, array_like=True, gc=False):
    """Who and when, of a connection whose record is the same as others' (`engine.alike`). started: epoch seconds. address: normalised, of
    a client without a proxy. place: where the row stands that decided, which is the detail of the one test; "": no row did. after: seconds
    from its beginning to its end, and to all tests and events but the first. said, size: the second event's text and count. Visits of one
    template have all of them a place, or said something, or none has."""

    started: float
    address: str
    port: int
    server_address: str
    server_port: int
    place: str = ""
    after: float = 0.0
    said: str = ""
    size: int = 0


class Alike(msgspec.Struct, array_like=True, gc=False):
    """Visits that have a record in common."""

    template: Record
    visits: list[Visit]


Recorded = Record | Alike
