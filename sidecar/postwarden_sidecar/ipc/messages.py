"""What supervisor and worker say to each other over the control pair (SOCK_SEQPACKET), encoded by msgspec as
MessagePack.

A message is one packet of at most 32 KiB; the rules travel as a descriptor of a sealed memory file
(SCM_RIGHTS), never inline. Control messages are few and never dropped; records of connections go over a
second pair (`ipc.records`) that may drop.

This file stays plain Python where others are compiled: of a compiled class msgspec would not learn the fields' types.
"""

from __future__ import annotations

import msgspec

from postwarden_sidecar.engine.proxy_header import Announced

MAX_MESSAGE = 32 * 1024  # bytes; well below the pair's buffer, so that one message always fits (design)
MAX_PASS_KEYS = 64  # of one PassQuery: the answer fits a message if all are known, at some 200 bytes each


class RulesInForce(msgspec.Struct, tag="rules", frozen=True):
    """Supervisor -> worker, with one descriptor: the image of `rules.image`. serial grows by one with each;
    open connections keep the rules they began with."""

    serial: int


class NoRules(msgspec.Struct, tag="no_rules", frozen=True):
    """Supervisor -> worker: no policy. defer: turn clients away with 421, else hand everybody over (verdict
    unscreened). proxy_trusted: networks of load balancers whose PROXY header is believed, and required, meanwhile."""

    serial: int
    defer: bool
    proxy_trusted: tuple[str, ...] = ()


class UpstreamInForce(msgspec.Struct, tag="upstream", frozen=True):
    """Supervisor -> worker: where clients go, once proved, and what the proof learned.

    usable: hand clients over. False: every client that would be handed over is told 421 4.3.2 (not proved,
    wrong answer, open relay); detail says why in one sentence. banner: the first two words of the MTA's
    greeting, "" while not learned. ehlo: keywords to offer in our own dialogue, None while not learned.
    """

    target: str  # HOST:PORT | [V6]:PORT | unix:PATH; "" if none is known
    handoff: str  # rules.settings.Handoff's value
    usable: bool
    detail: str
    banner: str
    ehlo: tuple[str, ...] | None


class SteeringInForce(msgspec.Struct, tag="steering", frozen=True):
    """Supervisor -> worker: which worker has which client; the fields of `net.steering.Steering`."""

    workers: int
    ipv4: int
    ipv6: int
    out: tuple[int, ...]


class Neighbour(msgspec.Struct, tag="neighbour", frozen=True):
    """Supervisor -> worker, with one descriptor: an end of a pair with another worker, in place of the one before."""

    index: int


class AcceptAlso(msgspec.Struct, tag="accept_also", frozen=True):
    """Supervisor -> worker, with one descriptor: the listening socket of a worker that is out."""

    index: int


class AcceptNoMore(msgspec.Struct, tag="accept_no_more", frozen=True):
    """Supervisor -> worker: that worker is back."""

    index: int


class PassAnswer(msgspec.Struct, tag="pass", frozen=True):
    """Supervisor -> worker: expiries (test -> epoch seconds) by key, of those keys that are known."""

    query: int
    known: dict[str, dict[str, float]]


class Resolvers(msgspec.Struct, tag="resolvers", frozen=True):
    """Supervisor -> worker: name servers as ADDRESS:PORT, in the order of preference. system: the pod's own. named: by the HOST:PORT
    of a policy, those of its hosts that are names, looked up."""

    system: tuple[str, ...]
    named: dict[str, tuple[str, ...]]


class ZoneProbed(msgspec.Struct, tag="zone_probed", frozen=True):
    """Supervisor -> worker: a DNSBL zone was probed now. zone: as asked; state: dns.zone_health.ZoneState's value."""

    zone: str
    state: str


class Suspect(msgspec.Struct, tag="suspect", frozen=True):
    """Supervisor -> worker: nearly all clients seem to come from this address, so theirs are lost; "": from none."""

    address: str


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Supervisor -> worker. New clients and sessions in our dialogue get 421 4.3.2; relays may go on for so
    many seconds; then the worker exits. Sent again with 0 to end at once."""

    timeout: float


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Worker -> supervisor: it accepts connections."""

    pid: int


class Applied(msgspec.Struct, tag="applied", frozen=True):
    """Worker -> supervisor: new connections are decided by these rules. error: one sentence if they can't be
    used (the previous stay)."""

    serial: int
    error: str


class PassQuery(msgspec.Struct, tag="query", frozen=True):
    """Worker -> supervisor: the keys that one turn of its loop asks for, MAX_PASS_KEYS at most. Not answered within 5 ms: the worker takes
    the clients for unknown."""

    query: int
    keys: tuple[str, ...]


class PassStored(msgspec.Struct, tag="store", frozen=True):
    """Worker -> supervisor."""

    key: str
    expiries: dict[str, float]


class ProbeWanted(msgspec.Struct, tag="probe", frozen=True):
    """Worker -> supervisor: a DNSBL zone has no probe that holds. ZoneProbed comes, whatever the result."""

    zone: str


class UpstreamFault(msgspec.Struct, tag="fault", frozen=True):
    """Worker -> supervisor: a hand-off went wrong in a way that asks for a new proof. outcome:
    engine.actions.HandoffOutcome's value; target, handoff: as they were in force then."""

    outcome: str
    detail: str
    target: str
    handoff: str


class EhloLearned(msgspec.Struct, tag="learned", frozen=True):
    """Worker -> supervisor: an MTA offers other keywords than UpstreamInForce said. target, handoff: as in force then. At most one in
    `worker.worker.LEARNED_PACE` seconds."""

    target: str
    handoff: str
    ehlo: tuple[str, ...]


class Stress(msgspec.Struct, tag="stress", frozen=True):
    """Worker -> supervisor: stress mode began or ended. connections: in our hands, of all workers together. Two workers may see the
    same change."""

    on: bool
    connections: int


class AcceptPaused(msgspec.Struct, tag="accept_paused", frozen=True):
    """Worker -> supervisor: clients wait for accept; why in one sentence. At most one a second."""

    why: str


ToWorker = (
    RulesInForce
    | NoRules
    | UpstreamInForce
    | SteeringInForce
    | Neighbour
    | AcceptAlso
    | AcceptNoMore
    | PassAnswer
    | Resolvers
    | ZoneProbed
    | Suspect
    | Drain
)
ToSupervisor = (
    Ready
    | Applied
    | PassQuery
    | PassStored
    | ProbeWanted
    | UpstreamFault
    | EhloLearned
    | Stress
    | AcceptPaused
)


class Moved(msgspec.Struct, frozen=True):
    """Worker -> worker (`net.neighbours`), with one descriptor. peer, local: the socket's own addresses, normalised. announced: of the
    PROXY header, `size` bytes of which wait in the socket."""

    peer: tuple[str, int]
    local: tuple[str, int]
    announced: Announced
    size: int
