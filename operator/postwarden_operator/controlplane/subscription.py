"""The state machine of one stream: what to send to a sidecar, and what it has in force. Pure.

Contract: the server tells it what is wanted and what the sidecar said, and asks it for the next message;
nonces come in as arguments. The latest wish wins: a newer one is sent without waiting for the answer to an
older one, whose answer is then dropped. What was sent is not what is applied: only Hello, and the answer to
the message last sent, tell that. Nothing that the sidecar has, or has refused, is sent again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.controlplane.wanted import Held, Managed, Undecided, Unmanaged, Wanted, same


class State(Enum):
    """How a sidecar stands to its policy.

    `Disconnected` is for the registry to say: no stream, no Subscription.
    """

    SYNCED = "Synced"
    PENDING = "Pending"
    REJECTED = "Rejected"
    DISCONNECTED = "Disconnected"


@dataclass(frozen=True, slots=True)
class ZoneReport:
    """How a DNSBL zone is doing for one sidecar. zone: without its key. state: Healthy, Blocked, Unreachable or ListsWorld."""

    zone: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class SyncState:
    """`reason` is one sentence for a person.

    Empty if synced. `unproved`: rejected for the proof of its hand-off, whatever the revision; `open_relay`: the MTA would relay for
    anyone. `zones`: what it reported of DNSBL zones. `lost_address`: why it thinks that clients' addresses are lost on their way to it,
    "" if it does not. `unsteered`: why the kernel does not steer its clients to its workers as they are to be, "" if it does.
    """

    state: State
    reason: str = ""
    unproved: bool = False
    open_relay: bool = False
    zones: tuple[ZoneReport, ...] = ()
    lost_address: str = ""
    unsteered: str = ""


DISCONNECTED = SyncState(State.DISCONNECTED, "no stream to this sidecar")

_FAILED_PROOFS: Mapping[int, str] = {
    pb.HANDOFF_STATE_UNPROVED: "the hand-off to the MTA is not proved",
    pb.HANDOFF_STATE_WRONG_ANSWER: "the MTA does not answer as the hand-off needs it",
    pb.HANDOFF_STATE_OPEN_RELAY: "the MTA would relay for anyone with this hand-off",
    pb.HANDOFF_STATE_UPSTREAM_EXPOSED: "the MTA's port is reachable past the sidecar",
}


_ZONE_STATES: Mapping[int, str] = {
    pb.DNSBL_STATE_HEALTHY: "Healthy",
    pb.DNSBL_STATE_BLOCKED: "Blocked",
    pb.DNSBL_STATE_UNREACHABLE: "Unreachable",
    pb.DNSBL_STATE_LISTS_WORLD: "ListsWorld",
}

MOST_ZONES = 64
"""Reports that are kept of a sidecar: twice as many as a policy has sites, for those of the last policy."""

LONGEST_DETAIL = 256
"""Characters of a report's detail."""

LONGEST_REASON = 1024
"""Characters of a Nack's reason: the field paths of a few errors."""


def shown(text: str, longest: int = LONGEST_DETAIL) -> str:
    """What a sidecar says, fit for logs and status: on one line, and not endless."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


@dataclass(slots=True)
class _Sent:
    wanted: Managed | Unmanaged
    nonce: str
    answered: bool = False
    refused: str | None = None


class Subscription:
    """Made from the sidecar's Hello.

    A start from disk (`complete` false) counts as nothing in force: Secrets are missing.
    """

    def __init__(self, *, revision: str, version: str, complete: bool) -> None:
        self._revision = revision if complete else ""
        self._version = version if complete else ""
        self._incomplete = "" if complete else version
        """What is in force from disk, until rules are acknowledged: a Nack that names it does not tell whether its Secrets came since."""
        self._policy_uid: str | None = None
        """Whose rules are in force; Hello does not tell."""
        self._wanted: Wanted | None = None
        self._sent: _Sent | None = None
        self._unsettled: dict[str, tuple[str, str]] = {}
        """uid and revision by version, of all that was sent since the last answer: any of it may be in force."""
        self._held: str | None = None
        """The reason of the Hold last sent, while the hold lasts."""
        self._handoff = SyncState(State.SYNCED)
        self._zones: dict[str, ZoneReport] = {}
        self._lost_address = ""
        self._unsteered = ""

    def want(self, wanted: Wanted) -> None:
        """From now on this is wanted; `next_message` says whether that needs a message."""
        self._wanted = wanted
        if not isinstance(wanted, Held):
            self._held = None

    def next_message(self, nonce: str) -> pb.ControlMessage | None:
        """What is to be sent now, marked with `nonce` (unique in this stream), and thereby counted as sent.

        None: nothing.
        """
        wanted = self._wanted
        if wanted is None or isinstance(wanted, Undecided) or not self._is_due(wanted):
            return None
        message = pb.ControlMessage()
        if isinstance(wanted, Held):
            self._held = wanted.reason
            message.hold.reason = wanted.reason
            return message
        self._sent = _Sent(wanted, nonce)
        if isinstance(wanted, Managed):
            self._unsettled[wanted.snapshot.version] = wanted.snapshot.policy_uid, wanted.revision
            message.snapshot.CopyFrom(wanted.snapshot)
            message.snapshot.nonce = nonce
        else:
            message.unmanaged.nonce = nonce
        return message

    def _is_due(self, wanted: Managed | Unmanaged | Held) -> bool:
        if isinstance(wanted, Held):
            return self._held != wanted.reason
        if self._sent is not None and same(self._sent.wanted, wanted):
            return False  # under way, in force, or refused
        if isinstance(wanted, Unmanaged) or (self._sent is not None and not self._sent.answered):
            return True
        return not self._in_force(wanted)

    def _in_force(self, wanted: Managed) -> bool:
        uid, version = wanted.key
        return version == self._version and self._policy_uid in (None, uid)

    def receive_ack(self, nonce: str, version: str) -> None:
        """The message is applied in every worker.

        A stale nonce is dropped: the answer that counts is still to come.
        """
        sent = self._sent
        if sent is None or sent.answered or sent.nonce != nonce:
            return
        sent.answered = True
        self._incomplete = ""
        expected = sent.wanted.snapshot.version if isinstance(sent.wanted, Managed) else ""
        if version != expected:
            # It breaks the contract; to send the same again would only make it do so for ever.
            sent.refused = f"acknowledged version {shown(version, 80)!r} in place of {expected!r}"
        self._settle(version)

    def receive_nack(self, nonce: str, reason: str, version: str) -> None:
        """The message is refused and `version` is in force still. A stale nonce is dropped."""
        sent = self._sent
        if sent is None or sent.answered or sent.nonce != nonce:
            return
        sent.answered = True
        sent.refused = shown(reason, LONGEST_REASON) or "refused without a reason"
        self._settle("" if version == self._incomplete else version)

    def _settle(self, version: str) -> None:
        """This version is in force. One that is not known counts as none: the next wish is then sent."""
        if version in self._unsettled:
            self._policy_uid, self._revision = self._unsettled[version]
            self._version = version
        elif version != self._version:
            self._policy_uid, self._version, self._revision = None, "", ""
        self._unsettled.clear()

    def receive_handoff(self, state: int, detail: str) -> None:
        """What the sidecar's last proof of the hand-off found (HandoffState).

        A failed one lasts until one succeeds.
        """
        if state == pb.HANDOFF_STATE_PROVED:
            self._handoff = SyncState(State.SYNCED)
        elif state in _FAILED_PROOFS:
            reason = _FAILED_PROOFS[state]
            self._handoff = SyncState(
                State.REJECTED,
                f"{reason}: {shown(detail, LONGEST_REASON)}" if detail else reason,
                unproved=True,
                open_relay=state == pb.HANDOFF_STATE_OPEN_RELAY,
            )

    def receive_dnsbl(self, zone: str, state: int, detail: str) -> None:
        """How a zone is doing (DnsblState); the last report counts. A state that we do not know is dropped."""
        if state not in _ZONE_STATES:
            return
        zone = shown(zone)
        self._zones.pop(zone, None)
        self._zones[zone] = ZoneReport(zone, _ZONE_STATES[state], shown(detail))
        if len(self._zones) > MOST_ZONES:
            del self._zones[next(iter(self._zones))]

    def receive_lost_address(self, address: str, detail: str) -> None:
        """Nearly all of its connections come from there; "": they do not any more."""
        self._lost_address = shown(detail or address) if address else ""

    def receive_steering(self, problem: str) -> None:
        """The kernel refuses to steer clients to its workers; "": it does not."""
        self._unsteered = shown(problem)

    @property
    def state(self) -> SyncState:
        """Never Synced before the sidecar has said that the wanted revision is in force."""
        zones = tuple(self._zones.values())
        return replace(
            self._sync_state(), zones=zones, lost_address=self._lost_address, unsteered=self._unsteered
        )

    def _sync_state(self) -> SyncState:
        wanted, sent = self._wanted, self._sent
        if self._handoff.state is State.REJECTED:
            return self._handoff
        if wanted is None:
            return SyncState(State.PENDING, "the operator has not decided yet")
        if isinstance(wanted, Held | Undecided):
            return SyncState(State.PENDING, wanted.reason)
        if (refusal := self.refusal) is not None:
            return SyncState(State.REJECTED, refusal)
        if sent is not None and not sent.answered:
            return SyncState(State.PENDING, "sent, and not acknowledged yet")
        if isinstance(wanted, Unmanaged):
            applied = sent is not None and isinstance(sent.wanted, Unmanaged)
        else:
            applied = self._revision != "" and self._revision == wanted.revision
        return SyncState(State.SYNCED) if applied else SyncState(State.PENDING, "not sent yet")

    @property
    def wanted(self) -> Wanted | None:
        """What `state` is about; None: nothing is known yet."""
        return self._wanted

    @property
    def unmanaged(self) -> bool:
        """The sidecar was told last that no policy matches its pod."""
        return self._sent is not None and isinstance(self._sent.wanted, Unmanaged)

    @property
    def version_in_force(self) -> str:
        """By the sidecar's own account; empty: none."""
        return self._version

    @property
    def refusal(self) -> str | None:
        """Why the sidecar refused what is wanted, if it did."""
        sent = self._sent
        return sent.refused if sent is not None and same(sent.wanted, self._wanted) else None

    def blob(self, digest: str) -> bytes | None:
        """A table named in the snapshot last sent; None: this sidecar may not have it."""
        if self._sent is None or not isinstance(self._sent.wanted, Managed):
            return None
        return self._sent.wanted.blobs.get(digest)
