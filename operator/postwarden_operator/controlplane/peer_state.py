"""One sidecar as a replica of the operator knows it, and its form on the wire (`PeerState` in screening.proto). Pure.

Contract: `state` is about `revision` of `policy_uid`, what that replica wants there. Who reads it may already want something newer, and
judges by these two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.controlplane.subscription import State, SyncState, ZoneReport
from postwarden_operator.controlplane.wanted import Managed, Wanted

LONGEST_REASON = 1024
"""Characters of a reason that a replica tells the others: a status shows three of them."""

_STATES: Mapping[State, pb.SyncState] = {
    State.SYNCED: pb.SYNC_STATE_SYNCED,
    State.PENDING: pb.SYNC_STATE_PENDING,
    State.REJECTED: pb.SYNC_STATE_REJECTED,
}

_ZONE_STATES: Mapping[str, pb.DnsblState] = {
    "Healthy": pb.DNSBL_STATE_HEALTHY,
    "Blocked": pb.DNSBL_STATE_BLOCKED,
    "Unreachable": pb.DNSBL_STATE_UNREACHABLE,
    "ListsWorld": pb.DNSBL_STATE_LISTS_WORLD,
}

_STATE_OF = {number: state for state, number in _STATES.items()}
_ZONE_STATE_OF = {number: state for state, number in _ZONE_STATES.items()}


@dataclass(frozen=True, slots=True)
class PeerState:
    """policy_uid, revision: empty where that replica wants no rules there. since: when the stream began, epoch seconds of that replica."""

    policy_uid: str
    revision: str
    sync: SyncState
    since: float


def peer_state(wanted: Wanted | None, sync: SyncState, since: float) -> PeerState:
    """Of a stream that is served here: what is wanted there, and how it stands to that."""
    if isinstance(wanted, Managed):
        return PeerState(wanted.snapshot.policy_uid, wanted.revision, sync, since)
    return PeerState("", "", sync, since)


def to_wire(pod_uid: str, peer: PeerState) -> pb.PeerState:
    """For the other replicas."""
    message = pb.PeerState(
        pod_uid=pod_uid,
        policy_uid=peer.policy_uid,
        revision=peer.revision,
        state=_STATES[peer.sync.state],
        reason=peer.sync.reason[:LONGEST_REASON],
        unproved=peer.sync.unproved,
        open_relay=peer.sync.open_relay,
        lost_address=peer.sync.lost_address,
        unsteered=peer.sync.unsteered,
        zones=[
            pb.DnsblReport(zone=report.zone, state=_ZONE_STATES[report.state], detail=report.detail)
            for report in peer.sync.zones
        ],
    )
    message.since.FromNanoseconds(round(peer.since * 1e9))
    return message


def from_wire(message: pb.PeerState) -> PeerState:
    """What another replica says. A state that only a newer release knows counts as pending: never as synced."""
    zones = tuple(
        ZoneReport(report.zone, _ZONE_STATE_OF[report.state], report.detail)
        for report in message.zones
        if report.state in _ZONE_STATE_OF
    )
    state = _STATE_OF.get(message.state, State.PENDING)
    sync = SyncState(
        state,
        message.reason,
        message.unproved,
        message.open_relay,
        zones,
        message.lost_address,
        message.unsteered,
    )
    return PeerState(message.policy_uid, message.revision, sync, message.since.ToNanoseconds() / 1e9)
