"""The status that a person sees, for every way in which sidecars can stand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from controlplane.sidecar_model import wish
from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.controlplane.subscription import State, SyncState
from postwarden_operator.policy import FieldError
from postwarden_operator.reconcile.compilation import RESOLVED, UNKNOWN, VALID, Compilation, Reason, summary
from postwarden_operator.reconcile.interception import Interception
from postwarden_operator.reconcile.judge import judged
from postwarden_operator.reconcile.plan import Outcome
from postwarden_operator.reconcile.status import status_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SYNCED = SyncState(State.SYNCED)
PENDING = SyncState(State.PENDING, "sent")
REJECTED = SyncState(State.REJECTED, "unknown feature")
OPEN_RELAY = SyncState(State.REJECTED, "it relays", open_relay=True)


def outcome(pods: int, accepted: Reason = VALID) -> Outcome:
    invalid = accepted.reason == "Invalid"
    compilation = (
        Compilation(accepted, UNKNOWN, None) if invalid else Compilation(VALID, RESOLVED, wish("rev"))
    )
    screened = {f"pod-{n}": f"mta-{n}" for n in range(pods)}
    return Outcome("mail", "wall", "uid", 7, compilation, accepted, accepted.reason == "Conflicted", screened)


def status(
    *states: SyncState | None, accepted: Reason = VALID, previous: dict[str, Any] | None = None
) -> dict[str, Any]:
    by_uid = {f"pod-{number}": state for number, state in enumerate(states)}
    return status_of(outcome(len(states), accepted), by_uid.get, previous or {}, NOW)


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    (found,) = [each for each in status["conditions"] if each["type"] == kind]
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), ("False", "NoSidecars")),
        ((SYNCED, SYNCED), ("True", "Synced")),
        ((SYNCED, PENDING), ("False", "Pending")),
        ((SYNCED, None), ("False", "Pending")),
        ((SYNCED, PENDING, REJECTED), ("False", "Rejected")),
        ((SYNCED, REJECTED, OPEN_RELAY), ("False", "OpenRelay")),
    ],
)
def test_programmed_is_true_only_if_every_sidecar_is_synced(
    states: tuple[SyncState | None, ...], expected: tuple[str, str]
) -> None:
    assert condition(status(*states), "Programmed") == expected


def test_what_sidecars_wait_for_is_told_of_the_first_few() -> None:
    conditions = status(SYNCED, *[PENDING] * 5, None)["conditions"]
    (message,) = [each["message"] for each in conditions if each["type"] == "Programmed"]
    assert message == "of 7 sidecars 5 pending, 1 disconnected; mta-1: sent; mta-2: sent; mta-3: sent"


def test_every_matched_sidecar_is_counted_once() -> None:
    assert status(SYNCED, SYNCED, PENDING, REJECTED, None)["sidecars"] == {
        "matched": 5,
        "synced": 2,
        "pending": 1,
        "rejected": 1,
        "disconnected": 1,
        "summary": "2/5",
    }


def test_rejection_names_the_pod_and_the_reason() -> None:
    (programmed,) = [each for each in status(SYNCED, REJECTED)["conditions"] if each["type"] == "Programmed"]
    assert programmed["message"] == "mta-1: unknown feature"


def test_lost_addresses_of_clients_are_a_detail_of_programmed() -> None:
    losing = SyncState(State.SYNCED, lost_address="99 % come from 10.0.0.1")
    (programmed,) = [each for each in status(SYNCED, losing)["conditions"] if each["type"] == "Programmed"]
    assert (programmed["status"], programmed["reason"]) == ("True", "Synced")
    assert programmed["message"] == (
        "in force in every sidecar; 1 of 2 sidecars do not see their clients' addresses (mta-1: 99 % come from 10.0.0.1): "
        "keep them with externalTrafficPolicy: Local or the PROXY protocol"
    )


def test_steering_that_a_kernel_refuses_is_a_detail_of_programmed() -> None:
    unsteered = SyncState(State.SYNCED, unsteered="one serves all")
    (programmed,) = [each for each in status(SYNCED, unsteered)["conditions"] if each["type"] == "Programmed"]
    assert (programmed["status"], programmed["reason"]) == ("True", "Synced")
    assert programmed["message"] == (
        "in force in every sidecar; in 1 of 2 sidecars clients can't be steered to workers (mta-1: one serves all)"
    )


@pytest.mark.parametrize(
    ("reason", "accepted", "resolved"),
    [
        ("Valid", "True", ("True", "Resolved")),
        ("Invalid", "False", ("Unknown", "Invalid")),
        ("Conflicted", "False", ("True", "Resolved")),
        ("PartlyConflicted", "True", ("True", "Resolved")),
    ],
)
def test_accepted_and_resolved(reason: str, accepted: str, resolved: tuple[str, str]) -> None:
    made = status(SYNCED, accepted=Reason(reason, "because"))
    assert condition(made, "Accepted") == (accepted, reason)
    assert condition(made, "ResolvedRefs") == resolved


def test_everything_names_the_generation_and_the_revision_that_were_judged() -> None:
    made = status(SYNCED)
    assert (made["observedGeneration"], made["revision"]) == (7, "rev")
    assert {each["observedGeneration"] for each in made["conditions"]} == {7}


def test_revision_stays_where_a_policy_does_not_compile_any_more() -> None:
    invalid = Reason("Invalid", "because")
    assert status(PENDING, accepted=invalid, previous={"revision": "before"})["revision"] == "before"
    assert "revision" not in status(PENDING, accepted=invalid)


def test_transition_time_stays_until_the_status_of_the_condition_changes() -> None:
    before = status(PENDING)
    later = NOW + timedelta(minutes=5)
    rejected = status_of(outcome(1), lambda _: REJECTED, before, later)
    synced = status_of(outcome(1), lambda _: SYNCED, rejected, later)
    made: list[dict[str, Any]] = [before, rejected, synced]
    times = [{each["type"]: each["lastTransitionTime"] for each in status["conditions"]} for status in made]
    assert times[0]["Programmed"] == times[1]["Programmed"] == "2026-05-01T12:00:00Z"
    assert times[2]["Programmed"] == "2026-05-01T12:05:00Z"
    assert times[2]["Accepted"] == "2026-05-01T12:00:00Z"


def test_summary_names_the_first_few_errors_and_counts_the_others() -> None:
    errors = tuple(FieldError(f"spec.x[{n}]", "is wrong") for n in range(5))
    assert summary(errors[:1]) == "spec.x[0]: is wrong"
    assert summary(errors) == "spec.x[0]: is wrong; spec.x[1]: is wrong; spec.x[2]: is wrong; and 2 more"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, None),
        (PeerState("uid", "rev", SYNCED, 1.0), State.SYNCED),
        (PeerState("uid", "older", SYNCED, 1.0), State.PENDING),
        (PeerState("other", "rev", SYNCED, 1.0), State.PENDING),
        (PeerState("", "", SYNCED, 1.0), State.PENDING),
        (PeerState("uid", "older", REJECTED, 1.0), State.PENDING),
        (PeerState("uid", "rev", REJECTED, 1.0), State.REJECTED),
        (PeerState("uid", "older", replace(OPEN_RELAY, unproved=True), 1.0), State.REJECTED),
    ],
)
def test_sidecar_counts_only_for_the_revision_that_is_wanted_here(
    told: PeerState | None, expected: State | None
) -> None:
    sync = judged(outcome(1), told)
    assert (None if sync is None else sync.state) is expected


def test_sidecar_is_never_synced_with_a_policy_that_does_not_compile() -> None:
    sync = judged(outcome(1, Reason("Invalid", "spec: bad")), PeerState("uid", "rev", SYNCED, 1.0))
    assert sync is not None
    assert sync.state is State.PENDING


def test_leader_that_has_not_heard_of_a_sidecar_yet_leaves_what_is_known_of_sidecars() -> None:
    before = status(SYNCED, SYNCED)
    by_uid = {"pod-0": SYNCED}
    after = status_of(outcome(2), by_uid.get, before, NOW + timedelta(seconds=5), settled=False)
    assert after["sidecars"] == before["sidecars"]
    assert condition(after, "Programmed") == ("Unknown", "LeaderChanged")
    assert condition(after, "DNSBLHealthy") == condition(before, "DNSBLHealthy")


def test_leader_that_has_heard_of_every_sidecar_is_settled_at_once() -> None:
    by_uid = {"pod-0": SYNCED, "pod-1": PENDING}
    after = status_of(outcome(2), by_uid.get, status(SYNCED, SYNCED), NOW, settled=False)
    assert condition(after, "Programmed") == ("False", "Pending")
    assert after["sidecars"] == status(SYNCED, PENDING)["sidecars"]


def test_interception_is_a_condition_and_stays_where_it_is_not_known_now() -> None:
    by_uid = {"pod-0": SYNCED}.get
    bypassed = Interception("False", Reason("Bypassed", "Service mx"))
    assert not [each for each in status(SYNCED)["conditions"] if each["type"] == "Intercepted"]
    known = status_of(outcome(1), by_uid, {}, NOW, intercepted=bypassed)
    assert condition(known, "Intercepted") == ("False", "Bypassed")
    assert status_of(outcome(1), by_uid, known, NOW) == known
