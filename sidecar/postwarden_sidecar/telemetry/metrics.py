"""What the metrics are, and their exact values.

METRICS is the one table: OTLP, Prometheus and the reference page are all made from it. Values are read from the page that the
workers count in, never from records, so they are exact whatever is sampled or dropped; what no worker knows is the SidecarState.
Addresses are no attributes: zombies have millions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from postwarden.telemetry.readings import Buckets, Kind, Metric, Point, Reading

from postwarden_sidecar.dns.outcome import Outcome
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc import page as cells
from postwarden_sidecar.ipc.lookup_counts import LOOKUP_BOUNDS, MAX_ZONES, OTHER
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.telemetry.sidecar_state import LIMITS, SidecarState

_USUAL_OUTCOMES = (Outcome.LISTED, Outcome.NOT_LISTED)

CONNECTIONS = Metric(
    "postwarden.connections", Kind.COUNTER, "{connection}", "Connections by verdict.", ("postwarden.verdict",)
)
TESTS = Metric(
    "postwarden.tests",
    Kind.COUNTER,
    "{test}",
    "Test results. The action is that of a failed test, as acted upon.",
    ("postwarden.test", "postwarden.outcome", "postwarden.action"),
)
DURATION = Metric(
    "postwarden.screening.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from a connection's begin to its verdict or hand-off.",
    ("postwarden.verdict",),
)
ACTIVE = Metric(
    "postwarden.connections.active",
    Kind.LEVEL,
    "{connection}",
    "Connections open now, by stage.",
    ("postwarden.stage",),
)
LOOKUPS = Metric(
    "postwarden.dnsbl.lookup.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of DNSBL look-ups. Connections of one client side by side share them. The zone is as the policy has it, never with a key; zones "
    f"of earlier policies stay, and those beyond {MAX_ZONES - 1} since the start are `{OTHER}`.",
    ("postwarden.dnsbl.zone", "postwarden.dnsbl.outcome"),
)
SCREENING = Metric(
    "postwarden.connections.screening",
    Kind.LEVEL,
    "{connection}",
    "Connections in our hands, not yet given to the MTA: `limits.screening` and stress mode are decided by them.",
)
UPSTREAM = Metric(
    "postwarden.connections.upstream",
    Kind.LEVEL,
    "{connection}",
    "Clients given to the MTA that it has not answered yet: `limits.upstream` is decided by them.",
)
STRESS = Metric("postwarden.stress", Kind.LEVEL, "{state}", "1 while stress mode is on, else 0.")
STEERING_FAILED = Metric(
    "postwarden.steering.failed",
    Kind.LEVEL,
    "{state}",
    "1 while clients are not steered to the workers as they should be, for the kernel refused it: one worker serves all, or an older way "
    "is in force. Else 0.",
)
DROPPED = Metric(
    "postwarden.telemetry.dropped",
    Kind.COUNTER,
    "{record}",
    "Telemetry that was lost: records of connections, log lines, or spans and log records that the OTLP endpoint did not take.",
    ("postwarden.signal",),
)
LOST_ADDRESS = Metric(
    "postwarden.client_address.lost",
    Kind.LEVEL,
    "{state}",
    "1 while nearly all connections come from one address that is the node's, a gateway's or a proxy's; else 0.",
)
LIMIT = Metric(
    "postwarden.connections.limit",
    Kind.LEVEL,
    "{connection}",
    "The limits in force (`limits`); 0: no limit. Without a policy there is none.",
    ("postwarden.limit",),
)
IN_FORCE = Metric(
    "postwarden.policy.in_force",
    Kind.LEVEL,
    "{state}",
    "1 while the rules of a policy are in force, else 0: clients are not screened, or put off.",
)
CONNECTED = Metric(
    "postwarden.operator.connected",
    Kind.LEVEL,
    "{state}",
    "1 while there is a stream to the operator, else 0. Without `--control` there is no such series.",
)
PROVED = Metric(
    "postwarden.handoff.proved",
    Kind.LEVEL,
    "{state}",
    "1 while an upstream is in force whose hand-off was proved, else 0: clients are told to come back.",
)
USABLE = Metric(
    "postwarden.dnsbl.zone.usable",
    Kind.LEVEL,
    "{state}",
    "1 while a DNS list's hits count; 0 while they count for nothing: it lists 127.0.0.1, refuses the resolver, or does not answer. Of "
    "the lists in force that were looked at.",
    ("postwarden.dnsbl.zone",),
)
METRICS = (
    CONNECTIONS,
    TESTS,
    DURATION,
    LOOKUPS,
    ACTIVE,
    SCREENING,
    UPSTREAM,
    LIMIT,
    STRESS,
    STEERING_FAILED,
    LOST_ADDRESS,
    IN_FORCE,
    CONNECTED,
    PROVED,
    USABLE,
    DROPPED,
)


def read(page: Page, dropped: Mapping[str, int], state: SidecarState) -> list[Reading]:
    """All metrics as they are now. dropped: what the supervisor itself lost, by signal; records that workers lost are added."""
    lost = dict(dropped)
    lost["record"] = lost.get("record", 0) + page.total(cells.RECORDS_DROPPED)
    return [
        Reading(CONNECTIONS, tuple(Point((v.value,), page.total(cells.connections(v))) for v in Verdict)),
        Reading(TESTS, _tests(page)),
        Reading(DURATION, histograms=tuple(_duration(page, verdict) for verdict in Verdict)),
        Reading(LOOKUPS, histograms=tuple(_lookups(page))),
        Reading(ACTIVE, tuple(Point((stage,), page.total(cells.active(stage))) for stage in cells.STAGES)),
        Reading(SCREENING, (Point((), page.total(cells.SCREENING)),)),
        Reading(UPSTREAM, (Point((), page.total(cells.UPSTREAM)),)),
        Reading(LIMIT, _limits(state)),
        Reading(STRESS, (Point((), page.newest(cells.STRESS) & 1),)),
        Reading(STEERING_FAILED, (Point((), page.total(cells.STEERING_FAILED)),)),
        Reading(LOST_ADDRESS, (Point((), page.newest(cells.SUSPECT)),)),
        Reading(IN_FORCE, (Point((), int(state.in_force)),)),
        Reading(CONNECTED, () if state.connected is None else (Point((), int(state.connected)),)),
        Reading(PROVED, (Point((), int(state.proved)),)),
        Reading(USABLE, tuple(Point((zone,), int(usable)) for zone, usable in sorted(state.zones.items()))),
        Reading(DROPPED, tuple(Point((signal,), count) for signal, count in sorted(lost.items()))),
    ]


def _tests(page: Page) -> tuple[Point, ...]:
    """Combinations that can be: a failure has an action, another outcome has none; others only if they were counted."""
    points = []
    for test in cells.TESTS:
        for outcome in cells.OUTCOMES:
            for action in cells.ACTIONS:
                count = page.total(cells.tests(test, outcome, action))
                if count or (outcome == "fail") == bool(action):
                    points.append(Point((test, outcome, action), count))
    return tuple(points)


def _limits(state: SidecarState) -> tuple[Point, ...]:
    if state.limits is None:
        return ()
    return tuple(Point((name,), getattr(state.limits, name)) for name in LIMITS)


def _duration(page: Page, verdict: Verdict) -> Buckets:
    bounds = cells.DURATION_BOUNDS
    counts = tuple(page.total(cells.duration_bucket(verdict, index)) for index in range(len(bounds) + 1))
    return Buckets(bounds, counts, page.total(cells.duration_sum(verdict)) / 1e6, (verdict.value,))


def _lookups(page: Page) -> Iterator[Buckets]:
    """What every zone answers from the start, so that a rate has a beginning; other outcomes once they were."""
    for zone, outcome, counts, total in page.lookups.totals():
        if any(counts) or (outcome in _USUAL_OUTCOMES and zone != OTHER):
            yield Buckets(LOOKUP_BOUNDS, counts, total / 1e6, (zone, outcome.value))
