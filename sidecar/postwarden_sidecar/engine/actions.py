"""What a connection's engine asks its driver to do, and what the driver may be asked to watch.

The engine never does I/O: the driver calls `receive_*`, `handle_timer`, then takes actions by `next_action()` until it gets None,
and carries each out in that order. An action's answer (a pass, the end of a hand-off) comes back by a `receive_*` call.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from postwarden_sidecar.engine.record import Record


class Interest(enum.Enum):
    """What the driver is to do when the client's socket is readable."""

    PEEK = "peek"  # recv(MSG_PEEK) and call receive_peek; discard as many bytes as it returns
    READ = "read"  # recv and call receive_bytes
    HANGUP = "hangup"  # do not read; only a hang-up or an error matters (EPOLLRDHUP)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses as text without brackets, v4-mapped ones normalised to v4. client and server are those announced by a trusted proxy, if
    there is one, else the socket's; peer is always the socket's other end."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int
    peer_address: str
    peer_port: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send to the client, after what was sent before."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LookupPass:
    """Ask the pass store; the answer comes by `receive_pass`. key: the client's address, or its prefix."""

    key: str


@dataclass(frozen=True, slots=True)
class StorePass:
    """expiries: test -> epoch seconds when its pass ends. Only passes are stored."""

    key: str
    expiries: dict[str, float]


@dataclass(frozen=True, slots=True)
class HandOff:
    """Give the client to the MTA; the end comes by `receive_handoff`. Unread bytes of the client are in the socket still: nothing
    was consumed of what is the MTA's.

    greeted: a teaser (`220-`) went out. The MTA's own `220 ` then ends the greeting; a failure is answered by the engine.
    """

    endpoints: Endpoints
    greeted: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once what was sent is out. linger: input is likely to wait; discard it first, so that the client gets reply
    and FIN, not RST."""

    linger: bool


@dataclass(frozen=True, slots=True)
class Observe:
    """The connection's verdict is known: one a connection, and the last but for Close."""

    record: Record


EngineAction = Send | LookupPass | StorePass | HandOff | Close | Observe


class HandoffOutcome(enum.Enum):
    """How a hand-off ended, as told to the engine."""

    DONE = "done"  # the MTA greeted and the client is its own now (Pass: the descriptor was taken)
    NOT_PROVED = "not_proved"  # no proof of the upstream yet, or a wrong answer: nothing was tried
    UNREACHABLE = "unreachable"  # connect failed or timed out, or the MTA fell silent before it greeted
    REFUSED = "refused"  # the MTA's greeting was no 220
    WRONG_ANSWER = "wrong_answer"  # garbage, a second reply, or a 500, 502 or 503 to HELO: the hand-off is not what the MTA expects
    NO_RESOURCES = "no_resources"  # too few descriptors are free
