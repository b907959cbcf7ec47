"""What the metrics are, and their exact values.

METRICS is the one table: OTLP, Prometheus and the reference page are all made from it. Values are read from the page that the
workers count in, never from records, so they are exact whatever is sampled or dropped. Addresses are no attributes: zombies have millions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from postwarden.telemetry.readings import Buckets, Kind, Metric, Point, Reading

from postwarden_sidecar.dns.outcome import Outcome
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc import page as cells
from postwarden_sidecar.ipc.lookup_counts import LOOKUP_BOUNDS, MAX_ZONES, OTHER
from postwarden_sidecar.ipc.page import Page

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
    "1",
    "1 while nearly all connections come from one address that is the node's, a gateway's or a proxy's; else 0.",
)
METRICS = (
    CONNECTIONS,
    TESTS,
    DURATION,
    LOOKUPS,
    ACTIVE,
    SCREENING,
    UPSTREAM,
    STRESS,
    STEERING_FAILED,
    LOST_ADDRESS,
    DROPPED,
)


def read(page: Page, dropped: Mapping[str, int]) -> list[Reading]:
    """All metrics as they are now. dropped: what the supervisor itself lost, by signal; records that workers lost are added."""
    lost = dict(dropped)
    lost["record"] = lost.get("record", 0) + page.total(cells.RECORDS_DROPPED)
    return [
        Reading(CONNECTIONS, tuple(Point((v.value,), page.total(cells.connections(v))) for v in Verdict)),
        Reading(TESTS, _tests(page)),
        Reading(DURATION, histograms=(_duration(page),)),
        Reading(LOOKUPS, histograms=tuple(_lookups(page))),
        Reading(ACTIVE, tuple(Point((stage,), page.total(cells.active(stage))) for stage in cells.STAGES)),
        Reading(SCREENING, (Point((), page.total(cells.SCREENING)),)),
        Reading(UPSTREAM, (Point((), page.total(cells.UPSTREAM)),)),
        Reading(STRESS, (Point((), page.newest(cells.STRESS) & 1),)),
        Reading(STEERING_FAILED, (Point((), page.total(cells.STEERING_FAILED)),)),
        Reading(LOST_ADDRESS, (Point((), page.newest(cells.SUSPECT)),)),
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


def _duration(page: Page) -> Buckets:
    bounds = cells.DURATION_BOUNDS
    counts = tuple(page.total(cells.duration_bucket(index)) for index in range(len(bounds) + 1))
    return Buckets(bounds, counts, page.total(cells.DURATION_SUM_US) / 1e6)


def _lookups(page: Page) -> Iterator[Buckets]:
    """What every zone answers from the start, so that a rate has a beginning; other outcomes once they were."""
    for zone, outcome, counts, total in page.lookups.totals():
        if any(counts) or (outcome in _USUAL_OUTCOMES and zone != OTHER):
            yield Buckets(LOOKUP_BOUNDS, counts, total / 1e6, (zone, outcome.value))
