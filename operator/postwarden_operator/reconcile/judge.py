"""What a sidecar's state, as some replica tells it, means for a policy as this replica knows it. Pure.

Contract: replicas see a change of a policy at different moments. A sidecar counts as synced, or as refusing, only for the revision that
is wanted here.
"""

from dataclasses import replace

from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.controlplane.subscription import State, SyncState
from postwarden_operator.reconcile.plan import Outcome


def judged(outcome: Outcome, told: PeerState | None) -> SyncState | None:
    """None: there is no stream to it."""
    if told is None:
        return None
    sync = told.sync
    # The proof of a hand-off is about the MTA, whatever the revision; nothing pending is synced by another.
    if sync.unproved or sync.state is State.PENDING:
        return sync
    if outcome.revision is not None and (told.policy_uid, told.revision) == (outcome.uid, outcome.revision):
        return sync
    return replace(sync, state=State.PENDING, reason="its replica has not sent this revision yet")
