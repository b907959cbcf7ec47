"""What sidecars report of DNSBL zones becomes dnsblHealth and the condition DNSBLHealthy."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.subscription import State, SyncState, ZoneReport
from postwarden_operator.controlplane.wanted import Managed
from postwarden_operator.reconcile.compilation import RESOLVED, UNKNOWN, VALID, Compilation, Reason
from postwarden_operator.reconcile.plan import Outcome
from postwarden_operator.reconcile.status import status_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PLANTED = "planted7key3of9zone"
KEYED = "{key}.zen.example"


def outcome(*zones: str) -> Outcome:
    snapshot = pb.Snapshot(revision="rev", version="rev/1")
    for zone in zones:
        snapshot.rules.dnsbl.sites.add(template=zone, zone=zone.replace("{key}", PLANTED))
    compilation = Compilation(VALID, RESOLVED, Managed(snapshot, {}))
    screened = {f"pod-{number}": f"mta-{number}" for number in range(3)}
    return Outcome("mail", "wall", "uid", 7, compilation, VALID, False, screened)


def sidecar(**states: str) -> SyncState:
    """a="Blocked": what it reports of a.example."""
    reports = (ZoneReport(f"{zone}.example", state, f"{zone}!") for zone, state in states.items())
    return SyncState(State.SYNCED, zones=tuple(reports))


def status(
    made: Outcome, *sidecars: SyncState, previous: dict[str, Any] | None = None, now: datetime = NOW
) -> dict[str, Any]:
    by_uid = {f"pod-{number}": state for number, state in enumerate(sidecars)}
    return status_of(made, by_uid.get, previous or {}, now)


def condition(status: dict[str, Any]) -> tuple[str, str, str]:
    (found,) = [each for each in status["conditions"] if each["type"] == "DNSBLHealthy"]
    return found["status"], found["reason"], found["message"]


def test_policy_without_lists_has_no_health_and_that_is_well() -> None:
    made = status(outcome(), sidecar(a="Blocked"))
    assert made["dnsblHealth"] == []
    assert condition(made)[:2] == ("True", "NoSites")


def test_zone_counts_by_its_worst_report_and_by_how_many_make_it() -> None:
    made = status(
        outcome("a.example", "b.example", "a.example"),
        sidecar(a="Unreachable", b="Healthy"),
        sidecar(a="Blocked", b="Healthy"),
        sidecar(a="Blocked", b="Healthy"),
    )
    since = "2026-05-01T12:00:00Z"
    assert made["dnsblHealth"] == [
        {"zone": "a.example", "state": "Blocked", "since": since, "affected": 2, "detail": "a!"},
        {"zone": "b.example", "state": "Healthy", "since": since, "affected": 0, "detail": "b!"},
    ]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({"a": "Healthy", "b": "Healthy"}, ("True", "Healthy")),
        ({"a": "Unreachable", "b": "Healthy"}, ("False", "Unreachable")),
        ({"a": "Unreachable", "b": "Blocked"}, ("False", "Blocked")),
        ({"a": "ListsWorld", "b": "Blocked"}, ("False", "ListsWorld")),
        ({"a": "Unreachable"}, ("False", "Unreachable")),
        ({"a": "Healthy"}, ("Unknown", "NoReports")),
        ({}, ("Unknown", "NoReports")),
        ({"other": "Blocked"}, ("Unknown", "NoReports")),
    ],
)
def test_condition_has_the_worst_of_all_zones(reports: dict[str, str], expected: tuple[str, str]) -> None:
    made = status(outcome("a.example", "b.example"), sidecar(**reports), sidecar())
    assert condition(made)[:2] == expected


def test_message_names_the_zones_that_are_ill_the_worst_first() -> None:
    made = status(outcome("a.example", "b.example"), sidecar(a="Unreachable", b="ListsWorld"))
    assert condition(made)[2] == (
        "b.example lists what no list may hold, and is not asked until it is well (1 sidecars: b!);"
        " a.example does not answer (1 sidecars: a!)"
    )


def test_since_stays_until_the_state_changes() -> None:
    later = NOW + timedelta(minutes=5)
    first = status(outcome("a.example"), sidecar(a="Blocked"))
    more = status(outcome("a.example"), *[sidecar(a="Blocked")] * 2, previous=first, now=later)
    well = status(outcome("a.example"), sidecar(a="Healthy"), previous=more, now=later)
    assert [each["dnsblHealth"][0]["since"] for each in (first, more, well)] == [
        "2026-05-01T12:00:00Z",
        "2026-05-01T12:00:00Z",
        "2026-05-01T12:05:00Z",
    ]


def test_policy_that_does_not_compile_says_nothing_of_its_lists() -> None:
    compilation = Compilation(Reason("Invalid", "because"), UNKNOWN, None)
    broken = Outcome("mail", "wall", "uid", 7, compilation, compilation.accepted, False, {})
    assert condition(status(broken))[:2] == ("Unknown", "Invalid")


def test_key_that_a_sidecar_says_by_mistake_is_not_in_the_status() -> None:
    report = ZoneReport(KEYED, "Unreachable", f"2.0.0.127.{PLANTED}.zen.example: no answer")
    made = status(outcome(KEYED), SyncState(State.SYNCED, zones=(report,)))
    assert PLANTED not in str(made)
    assert made["dnsblHealth"][0]["detail"] == f"2.0.0.127.{KEYED}: no answer"
