"""What a connection's engine asks its driver to do, and what the driver may be asked to watch.

The engine never does I/O: the driver calls `receive_*`, `handle_timer`, then takes actions by `next_action()` until it gets None,
and carries each out in that order. An action's answer (a pass, the end of a hand-off) comes back by a `receive_*` call.
Structs of msgspec: a frozen dataclass takes five times as long to make.
"""

from __future__ import annotations

import enum
from functools import lru_cache

import msgspec

from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.plain_members import plain_members


@plain_members
class Interest(enum.Enum):
    """What the driver is to do when the client's socket is readable."""

    PEEK = "peek"  # recv(MSG_PEEK) and call receive_peek; discard as many bytes as it returns
    READ = "read"  # recv and call receive_bytes
    HANGUP = "hangup"  # do not read; only a hang-up or an error matters (EPOLLRDHUP)
    NOTHING = "nothing"  # an answer of ours comes in a moment: bytes, and an end behind them, are to be told in their order


class Endpoints(msgspec.Struct, frozen=True, gc=False):
    """Addresses as text without brackets, v4-mapped ones normalised to v4. client and server are those announced by a trusted proxy, if
    there is one, else the socket's; peer is always the socket's other end."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int
    peer_address: str
    peer_port: int


def direct(address: str, port: int, server_address: str, server_port: int) -> Endpoints:
    """Of a client that no proxy speaks for."""
    return Endpoints(address, port, *_ours(server_address, server_port), address, port)


@lru_cache(maxsize=64)
def _ours(address: str, port: int) -> tuple[str, int]:
    """One number for all clients of a port, where compiled callers have made a new one of 32 bytes."""
    return address, port


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send to the client, after what was sent before."""

    data: bytes


class LookupPass(msgspec.Struct, frozen=True, gc=False):
    """Ask the pass store; the answer comes by `receive_pass`. key: the client's address, or its prefix."""

    key: str


class PreparePass(msgspec.Struct, frozen=True, gc=False):
    """LookupPass is likely to come in ENDING seconds: the store may be asked now, so that the client does not wait for the answer then.
    What it knows by then counts, so nothing is told of it by `receive_pass`."""

    key: str


class QueryDnsbl(msgspec.Struct, frozen=True, gc=False):
    """Ask each zone of the rules' sites about address, once a zone; the answers come by `receive_dnsbl`, one a zone."""

    address: str


class DnsblAnswer(msgspec.Struct, frozen=True, gc=False):
    """zone: as DnsblSite.zone. addresses: the A records that count (none in 127.255.255.0/24, all in 127.0.0.0/8), as four octets each;
    empty: not listed. ttl: seconds, of the answer or of the negative answer's SOA. failed: no usable answer (time-out, SERVFAIL, blocked,
    a zone that lists the world): it scores nothing and sets no TTL. start, end: CLOCK_MONOTONIC seconds, for the trace; outcome: for
    metrics."""

    zone: str
    addresses: tuple[bytes, ...]
    ttl: float
    failed: bool
    outcome: str
    start: float
    end: float


class Load(msgspec.Struct, frozen=True, gc=False):
    """How busy the pod is when a client is known (its PROXY header read), all workers together. client: connections of this client
    (its prefix) that are in our hands, this one too; screening: all connections in our hands, this one too; upstream: clients
    given to the MTA that it has not answered yet. stress: stress mode is on. unoffered: keywords of EHLO that the MTA does not offer to
    this client though it does to others (upper case)."""

    client: int
    screening: int
    upstream: int
    stress: bool
    unoffered: frozenset[str] = frozenset()


IDLE = Load(client=1, screening=1, upstream=0, stress=False)


class Replay(msgspec.Struct, frozen=True, gc=False):
    """A session that is handed over in its middle: the client's own command lines, byte for byte with their ends; hello is b"" if it said
    none, mail is b"" with STARTTLS. request is RCPT's line or STARTTLS's. rest: what of the client's input was read behind request
    (nothing with STARTTLS); it is the MTA's with DONE, else it stays the dialogue's. transaction: how many MAIL the dialogue has taken:
    what the MTA said of a MAIL answers every RCPT of the same number, and no other.

    exempt: the client is refused, but this recipient is not: the request is put to the MTA and answered, and no relay begins. After such
    recipients request may be DATA; then only the data goes to the MTA, and the outcome is one of those that end the connection."""

    hello: bytes
    mail: bytes
    request: bytes
    rest: bytes
    transaction: int = 0
    exempt: bool = False


class HandOver(msgspec.Struct, frozen=True, gc=False):
    """Give the client to the MTA in the middle of our dialogue; the end comes by `receive_handover`."""

    endpoints: Endpoints
    replay: Replay


@plain_members
class HandoverOutcome(enum.Enum):
    """How a hand-over in the middle ended."""

    DONE = "done"  # the MTA has the client; its reply to the request has gone to the client
    ANSWERED = "answered"  # reply goes to the client, the dialogue goes on and the MTA is gone (or is kept for the next MAIL)
    CLOSE = "close"  # reply goes to the client, then the connection is closed
    EXEMPTED = (
        "exempted"  # the MTA has answered the data of a mail to exempt recipients: reply, then QUIT or 421
    )
    BARE_NEWLINE = "bare_newline"  # such data held a bare CR or LF: it is refused and the connection closed


class StorePass(msgspec.Struct, frozen=True, gc=False):
    """expiries: test -> epoch seconds when its pass ends. Only passes are stored."""

    key: str
    expiries: dict[str, float]


class HandOff(msgspec.Struct, frozen=True, gc=False):
    """Give the client to the MTA; the end comes by `receive_handoff`. Unread bytes of the client are in the socket still: nothing
    was consumed of what is the MTA's.

    greeted: a teaser (`220-`) went out. The MTA's own `220 ` then ends the greeting; a failure is answered by the engine.
    """

    endpoints: Endpoints
    greeted: bool


class Close(msgspec.Struct, frozen=True, gc=False):
    """Close the connection once what was sent is out. linger: input is likely to wait; discard it first, so that the client gets reply
    and FIN, not RST."""

    linger: bool


class Observe(msgspec.Struct, frozen=True, gc=False):
    """The connection's verdict is known: one a connection, and the last but for Close."""

    record: Record


EngineAction = Send | LookupPass | PreparePass | QueryDnsbl | StorePass | HandOff | HandOver | Close | Observe


@plain_members
class HandoffOutcome(enum.Enum):
    """How a hand-off ended, as told to the engine."""

    DONE = "done"  # the MTA greeted and the client is its own now (Pass: the descriptor was taken)
    NOT_PROVED = "not_proved"  # no proof of the upstream yet, or a wrong answer: nothing was tried
    UNREACHABLE = "unreachable"  # connect failed or timed out, or the MTA fell silent before it greeted
    REFUSED = "refused"  # the MTA's greeting was no 220
    WRONG_ANSWER = "wrong_answer"  # garbage, a second reply, or a 500, 502 or 503 to HELO: the hand-off is not what the MTA expects
    NO_RESOURCES = "no_resources"  # too few descriptors are free
