"""What the operator's metrics are, and their values.

METRICS is the one table: OTLP, Prometheus and the reference page are all made from it. No policy, pod or namespace is an attribute: a
cluster has thousands; traces and the policies' status tell of a single one.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from postwarden.telemetry.readings import Buckets, Kind, Metric, Point, Reading

PROPAGATION_BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: 0.06 to 0.08 s are usual (measured with real clusters of one pod), a large list takes seconds, a pod that is away longer."""

RECONCILE_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: a millisecond for a few policies, some hundred for 1,000."""

POLICY_STATES = ("accepted", "partly_conflicted", "conflicted", "invalid", "unresolved", "compiling")
PUSH_RESULTS = ("sent", "applied", "refused")
RECONCILE_RESULTS = ("ok", "failed")
SIDECAR_STATES = ("synced", "pending", "rejected")

PROPAGATION = Metric(
    "postwarden.policy.propagation.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from the write of a policy (or the first notice of another change) to its being in force in a pod, once a pod.",
)
RECONCILE = Metric(
    "postwarden.reconcile.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of a reconcile, the wait for further changes left out.",
)
RECONCILES = Metric(
    "postwarden.reconciles", Kind.COUNTER, "{reconcile}", "Reconciles.", ("postwarden.reconcile.result",)
)
PUSHES = Metric(
    "postwarden.policy.pushes",
    Kind.COUNTER,
    "{snapshot}",
    "Snapshots of policies that were sent to sidecars, and the answers.",
    ("postwarden.push.result",),
)
POLICIES = Metric(
    "postwarden.policies",
    Kind.LEVEL,
    "{policy}",
    "Policies by what became of them; unresolved: a list or a key is missing, or can't be read.",
    ("postwarden.policy.state",),
)
PODS = Metric("postwarden.pods", Kind.LEVEL, "{pod}", "Pods that carry our container and have a policy.")
SIDECARS = Metric(
    "postwarden.sidecars",
    Kind.LEVEL,
    "{pod}",
    "Sidecars that have a policy and a stream to this replica, by whether its rules are in force, under way or refused. Of all replicas "
    "together; what `postwarden.pods` has more has no stream.",
    ("postwarden.sidecar.state",),
)
LEADING = Metric(
    "postwarden.operator.leading",
    Kind.LEVEL,
    "{state}",
    "1 for the replica that writes status, 0 for the others.",
)
DROPPED = Metric(
    "postwarden.telemetry.dropped",
    Kind.COUNTER,
    "{record}",
    "Spans that the OTLP endpoint did not take.",
    ("postwarden.signal",),
)
METRICS = (PROPAGATION, RECONCILE, RECONCILES, PUSHES, POLICIES, PODS, SIDECARS, LEADING, DROPPED)


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What is asked for when metrics are read. sidecars: those with a stream to this replica, by SIDECAR_STATES."""

    leading: bool = True
    sidecars: Mapping[str, int] = field(default_factory=dict)


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def buckets(self) -> Buckets:
        return Buckets(self._bounds, tuple(self._counts), self._total)


class OperatorMetrics:
    """Written by the event loop, read by the exporters' thread too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._propagation = _Histogram(PROPAGATION_BOUNDS)
        self._reconcile = _Histogram(RECONCILE_BOUNDS)
        self._reconciles = dict.fromkeys(RECONCILE_RESULTS, 0)
        self._pushes = dict.fromkeys(PUSH_RESULTS, 0)
        self._policies = dict.fromkeys(POLICY_STATES, 0)
        self._pods = 0

    def reconciled(self, seconds: float, policies: Mapping[str, int], pods: int) -> None:
        """policies: by POLICY_STATES."""
        with self._lock:
            self._reconciles["ok"] += 1
            self._reconcile.add(seconds)
            self._policies = dict.fromkeys(POLICY_STATES, 0) | dict(policies)
            self._pods = pods

    def reconcile_failed(self) -> None:
        with self._lock:
            self._reconciles["failed"] += 1

    def pushed(self, result: str) -> None:
        """result: of PUSH_RESULTS."""
        with self._lock:
            self._pushes[result] += 1

    def propagated(self, seconds: float) -> None:
        """A policy is in force in a pod, so long after it was written."""
        with self._lock:
            self._propagation.add(max(0.0, seconds))

    def read(self, dropped: Mapping[str, int], state: ReplicaState) -> list[Reading]:
        """All metrics as they are now. dropped: by signal."""
        sidecars = dict.fromkeys(SIDECAR_STATES, 0) | dict(state.sidecars)
        with self._lock:
            return [
                Reading(PROPAGATION, histograms=(self._propagation.buckets(),)),
                Reading(RECONCILE, histograms=(self._reconcile.buckets(),)),
                Reading(RECONCILES, _points(self._reconciles)),
                Reading(PUSHES, _points(self._pushes)),
                Reading(POLICIES, _points(self._policies)),
                Reading(PODS, (Point((), self._pods),)),
                Reading(SIDECARS, _points(sidecars)),
                Reading(LEADING, (Point((), int(state.leading)),)),
                Reading(DROPPED, _points(dropped)),
            ]


def _points(values: Mapping[str, int]) -> tuple[Point, ...]:
    return tuple(Point((name,), value) for name, value in values.items())
