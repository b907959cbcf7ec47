"""The status of a ScreeningPolicy: conditions and counts of sidecars. Pure.

Contract: `status_of` gives the whole status subresource (the CRD's names). A condition keeps its
lastTransitionTime until its status changes. Counts and the first few reasons only, never a list of pods.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from postwarden_operator.controlplane.subscription import DISCONNECTED, State, SyncState
from postwarden_operator.reconcile.compilation import SHOWN_ERRORS, Reason
from postwarden_operator.reconcile.dnsbl_health import dnsbl_condition, dnsbl_health
from postwarden_operator.reconcile.interception import Interception
from postwarden_operator.reconcile.plan import Outcome

MESSAGE_LIMIT = 32768
"""Characters of a condition's message: the API's own limit (metav1.Condition)."""

StateOf = Callable[[str], SyncState | None]
"""The state of a pod's sidecar by uid, as to this policy's revision (`judged`); None: it has no stream."""

Status = dict[str, object]


def status_of(
    outcome: Outcome,
    state_of: StateOf,
    previous: Mapping[str, object],
    now: datetime,
    *,
    settled: bool = True,
    intercepted: Interception | None = None,
) -> Status:
    """previous: the status that is in the object now. now: for the conditions that change. intercepted: None: not known, then what was
    said of it stays.

    settled: whether a sidecar without a stream is disconnected. Else it may be one of a replica that was not heard yet: what is known
    of sidecars then stays as it is, and Programmed is Unknown.
    """
    found = {uid: state_of(uid) for uid in outcome.screened}
    unheard = 0 if settled else sum(state is None for state in found.values())
    states = {uid: state or DISCONNECTED for uid, state in found.items()}
    if outcome.compilation.compiling:
        # In force is what the policy was before.
        states = {
            uid: replace(each, state=State.PENDING, reason=outcome.compilation.resolved.message)
            if each.state is State.SYNCED
            else each
            for uid, each in states.items()
        }
    counts = {state: sum(each.state is state for each in states.values()) for state in State}
    accepted = "False" if outcome.accepted.reason in ("Invalid", "Conflicted") else "True"
    resolved = outcome.compilation.resolved
    resolved_status = {"Resolved": "True", "Invalid": "Unknown", "Pending": "Unknown"}.get(
        resolved.reason, "False"
    )
    programmed = _with_lost_addresses(_programmed(outcome, states, counts), outcome, states)
    programmed = _with_unsteered(programmed, outcome, states)
    health = dnsbl_health(outcome, states.values(), previous, now)
    programmed_status = "True" if programmed.reason == "Synced" else "False"
    if unheard:
        programmed_status = "Unknown"
        programmed = Reason(
            "LeaderChanged",
            f"the replica that writes this is new, and has not heard of {unheard} of {len(states)} sidecars yet",
        )
    conditions = [
        ("Accepted", accepted, outcome.accepted),
        ("ResolvedRefs", resolved_status, resolved),
        ("Programmed", programmed_status, programmed),
        ("DNSBLHealthy", *dnsbl_condition(outcome, health)),
    ]
    if intercepted is not None:
        conditions.append(("Intercepted", intercepted.status, intercepted.reason))
    status: Status = {
        "observedGeneration": outcome.generation,
        "sidecars": {
            "matched": len(states),
            "synced": counts[State.SYNCED],
            "pending": counts[State.PENDING],
            "rejected": counts[State.REJECTED],
            "disconnected": counts[State.DISCONNECTED],
            "summary": f"{counts[State.SYNCED]}/{len(states)}",
        },
        "dnsblHealth": health,
        "conditions": [
            _condition(kind, status, reason, outcome.generation, previous, now)
            for kind, status, reason in conditions
        ],
    }
    if unheard:
        _keep(status, previous, ("sidecars", "dnsblHealth"), "DNSBLHealthy")
    if intercepted is None:
        _keep(status, previous, (), "Intercepted")
    # Where it does not compile, the revision wanted last is what the pods hold.
    revision = outcome.revision or previous.get("revision")
    if isinstance(revision, str):
        status["revision"] = revision
    return status


def _keep(status: Status, previous: Mapping[str, object], fields: Iterable[str], condition: str) -> None:
    """As it was, where it was anything."""
    status.update((field, previous[field]) for field in fields if field in previous)
    new, old = status["conditions"], previous.get("conditions")
    if isinstance(new, list) and isinstance(old, list):
        kept = [each for each in old if each.get("type") == condition]
        status["conditions"] = [each for each in new if not kept or each["type"] != condition] + kept


def _programmed(outcome: Outcome, states: Mapping[str, SyncState], counts: Mapping[State, int]) -> Reason:
    if not states:
        return Reason("NoSidecars", "no running pod that it is in force for carries a sidecar")
    if counts[State.SYNCED] == len(states):
        return Reason("Synced", "in force in every sidecar")
    if counts[State.REJECTED]:
        relay = any(state.open_relay for state in states.values())
        rejected = [
            f"{outcome.screened[uid]}: {state.reason}"
            for uid, state in states.items()
            if state.state is State.REJECTED and state.open_relay == relay
        ]
        return Reason("OpenRelay" if relay else "Rejected", "; ".join(rejected[:SHOWN_ERRORS]))
    pending, disconnected = counts[State.PENDING], counts[State.DISCONNECTED]
    waiting = [
        f"{outcome.screened[uid]}: {state.reason}"
        for uid, state in states.items()
        if state.state is State.PENDING
    ]
    message = f"of {len(states)} sidecars {pending} pending, {disconnected} disconnected"
    return Reason("Pending", "; ".join([message, *waiting[:SHOWN_ERRORS]]))


def _with_lost_addresses(programmed: Reason, outcome: Outcome, states: Mapping[str, SyncState]) -> Reason:
    """With a sentence on sidecars that do not see their clients' addresses: screening them by address is of little use."""
    losing = [uid for uid, state in states.items() if state.lost_address]
    if not losing:
        return programmed
    first = losing[0]
    sentence = (
        f"{len(losing)} of {len(states)} sidecars do not see their clients' addresses "
        f"({outcome.screened[first]}: {states[first].lost_address}): keep them with externalTrafficPolicy: Local or the PROXY protocol"
    )
    return Reason(programmed.reason, f"{programmed.message}; {sentence}")


def _with_unsteered(programmed: Reason, outcome: Outcome, states: Mapping[str, SyncState]) -> Reason:
    """With a sentence on sidecars whose kernel does not steer clients to their workers."""
    unsteered = [uid for uid, state in states.items() if state.unsteered]
    if not unsteered:
        return programmed
    first = unsteered[0]
    sentence = (
        f"in {len(unsteered)} of {len(states)} sidecars clients can't be steered to workers "
        f"({outcome.screened[first]}: {states[first].unsteered})"
    )
    return Reason(programmed.reason, f"{programmed.message}; {sentence}")


def _condition(
    kind: str,
    status: str,
    reason: Reason,
    generation: int,
    previous: Mapping[str, object],
    now: datetime,
) -> Status:
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = previous.get("conditions")
    for old in conditions if isinstance(conditions, list) else ():
        if old.get("type") == kind and old.get("status") == status:
            since = old.get("lastTransitionTime", since)
    return {
        "type": kind,
        "status": status,
        "reason": reason.reason,
        "message": reason.message[:MESSAGE_LIMIT],
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
