"""How a policy's DNSBL zones are doing, from what its sidecars report. Pure.

Contract: a zone's state is the worst that any sidecar reports; `affected` counts the sidecars that report that state. A zone that no
sidecar has reported on has no entry.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from postwarden_operator.controlplane.subscription import SyncState
from postwarden_operator.reconcile.compilation import SHOWN_ERRORS, UNKNOWN, Reason
from postwarden_operator.reconcile.plan import Outcome

Health = dict[str, object]

HEALTHY = "Healthy"

_WORST_FIRST = ("ListsWorld", "Blocked", "Unreachable", HEALTHY)

_MEANING = {
    "ListsWorld": "lists what no list may hold, and is not asked until it is well",
    "Blocked": "refuses the resolver's questions",
    "Unreachable": "does not answer",
}


def dnsbl_health(
    outcome: Outcome, states: Iterable[SyncState], previous: Mapping[str, object], now: datetime
) -> list[Health]:
    """`status.dnsblHealth`, in the order of the policy's sites. previous: the status that is in the object now."""
    if outcome.compilation.managed is None:
        return []
    sites = outcome.compilation.managed.snapshot.rules.dnsbl.sites
    reports = [report for state in states for report in state.zones]
    entries = []
    for zone in dict.fromkeys(site.template for site in sites):
        told = [report for report in reports if report.zone == zone]
        if not told:
            continue
        worst = min(told, key=lambda report: _WORST_FIRST.index(report.state))
        affected = sum(report.state == worst.state for report in told) if worst.state != HEALTHY else 0
        detail = worst.detail
        for site in sites:
            # Sidecars know better than to say a key; status is where everybody would read it.
            detail = detail.replace(site.zone, site.template)
        entries.append(
            {
                "zone": zone,
                "state": worst.state,
                "since": _since(zone, worst.state, previous, now),
                "affected": affected,
                "detail": detail,
            }
        )
    return entries


def _since(zone: str, state: str, previous: Mapping[str, object], now: datetime) -> str:
    entries = previous.get("dnsblHealth")
    for entry in entries if isinstance(entries, list) else ():
        if entry.get("zone") == zone and entry.get("state") == state and entry.get("since"):
            return str(entry["since"])
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def dnsbl_condition(outcome: Outcome, health: list[Health]) -> tuple[str, Reason]:
    """Status and reason of DNSBLHealthy."""
    if outcome.compilation.managed is None:
        return "Unknown", UNKNOWN
    zones = {site.template for site in outcome.compilation.managed.snapshot.rules.dnsbl.sites}
    if not zones:
        return "True", Reason("NoSites", "the policy asks no DNSBL")
    ill = [entry for entry in health if entry["state"] != HEALTHY]
    if ill:
        ill.sort(key=lambda entry: _WORST_FIRST.index(str(entry["state"])))
        return "False", Reason(str(ill[0]["state"]), "; ".join(map(_sentence, ill[:SHOWN_ERRORS])))
    if missing := len(zones) - len(health):
        return "Unknown", Reason("NoReports", f"of {len(zones)} zones {missing} not reported on yet")
    return "True", Reason(HEALTHY, "every zone answers as a list should")


def _sentence(entry: Health) -> str:
    detail = f": {entry['detail']}" if entry["detail"] else ""
    return f"{entry['zone']} {_MEANING[str(entry['state'])]} ({entry['affected']} sidecars{detail})"
