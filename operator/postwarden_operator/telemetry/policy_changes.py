"""What becomes of a policy change, as a trace and in metrics: written, reconciled, compiled, pushed to each pod, applied there.

Contract: one trace for each change of what a policy compiles to (or of why it does not): `policy.change` with children `reconcile`,
`compile`, and for at most 20 pods `push`, each with the `policy.apply` of that pod's sidecar, which the traceparent in the Snapshot
joins. Writes that were coalesced into one change have a `policy.change` of their own, and the change links to them. What is found at the
operator's own start is no change. Metrics count every pod. Used from the event loop; no call blocks: what is exported only queues.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.telemetry import traceparent
from postwarden.telemetry.escape import printable

from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.reconcile.compilation import Compilation
from postwarden_operator.reconcile.observer import ReconcileTimes
from postwarden_operator.reconcile.plan import Outcome, Plan
from postwarden_operator.telemetry.metrics import OperatorMetrics

MOST_TRACED_PODS = 20
"""Of one change: a trace of thousands of spans is read by nobody (design)."""

MOST_WRITES = 16
"""Of one policy between two reconciles, which are half a second apart at most: older ones are forgotten."""

CHANGE, RECONCILE, COMPILE, PUSH = "policy.change", "reconcile", "compile", "push"

_LONGEST_REASON = 400  # characters
_STATES = {"Conflicted": "conflicted", "PartlyConflicted": "partly_conflicted", "Invalid": "invalid"}


@dataclass(frozen=True, slots=True)
class Write:
    """A policy as it was written. at: epoch seconds, as near as they are known."""

    generation: int
    resource_version: str
    at: float


@dataclass(slots=True)
class _Change:
    """key: whose rules and which version, if it compiled; at: epoch seconds; trace: None without OTLP. traced_pods: so far."""

    key: tuple[str, str] | None
    at: float
    trace: SpanContext | None
    traced_pods: int = 0


@dataclass(slots=True)
class _Push:
    nonce: str
    change: _Change
    span: Span | None


@dataclass(slots=True)
class _Known:
    """What was last known of a policy. change: None for what was found at the start."""

    compilation: Compilation
    change: _Change | None
    writes: list[Write] = field(default_factory=list)


class PolicyChanges:
    """A ReconcileObserver and a PushObserver. tracer: None for no traces; admit: whether so many spans may be queued."""

    def __init__(
        self,
        metrics: OperatorMetrics,
        tracer: Tracer | None = None,
        admit: Callable[[int], bool] = lambda spans: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._admit = admit
        self._clock = clock
        self._known: dict[str, _Known] | None = None
        self._writes: dict[str, list[Write]] = {}
        self._pushes: dict[str, _Push] = {}
        """By pod uid: the one that is under way."""

    def wrote(self, policy_uid: str, generation: int, resource_version: str, times: list[str]) -> None:
        """An event told of a policy that was written. times: of its managedFields, RFC 3339."""
        if self._known is None:
            return
        writes = self._writes.setdefault(policy_uid, [])
        writes.append(Write(generation, resource_version, written_at(times, self._clock())))
        del writes[:-MOST_WRITES]

    # --- reconcile

    def reconciled(self, times: ReconcileTimes, plan: Plan) -> None:
        known, self._known = self._known, {}
        for outcome in plan.outcomes:
            before = known.get(outcome.uid) if known is not None else None
            self._known[outcome.uid] = self._look_at(outcome, before, times, first=known is None)
        self._writes = {uid: writes for uid, writes in self._writes.items() if uid in self._compiling(plan)}
        for uid in self._pushes.keys() - plan.wanted.keys():
            self._end_push(self._pushes.pop(uid), "the pod is gone")
        states = Counter(map(_state, plan.outcomes))
        pods = sum(len(outcome.screened) for outcome in plan.outcomes)
        self._metrics.reconciled(times.planned - times.began, states, pods)

    def failed(self) -> None:
        self._metrics.reconcile_failed()

    @staticmethod
    def _compiling(plan: Plan) -> set[str]:
        return {outcome.uid for outcome in plan.outcomes if outcome.compilation.compiling}

    def _look_at(
        self, outcome: Outcome, before: _Known | None, times: ReconcileTimes, *, first: bool
    ) -> _Known:
        compilation = outcome.compilation
        if first:
            return _Known(compilation, None)
        if compilation.compiling and before is not None:
            return before
        if before is not None and before.compilation is compilation:
            return before
        if before is not None and _same(before.compilation, compilation):
            return _Known(compilation, before.change)
        return _Known(compilation, self._changed(outcome, times))

    def _changed(self, outcome: Outcome, times: ReconcileTimes) -> _Change:
        writes = self._writes.get(outcome.uid, [])
        coalesced, last = writes[:-1], writes[-1] if writes else None
        at = times.dirty if last is None else min(last.at, times.dirty)
        managed = outcome.compilation.managed
        key = None if managed is None else managed.key
        spans = 3 + len(coalesced)
        if self._tracer is None or not self._admit(spans):
            return _Change(key, at, None)
        links = [Link(self._root(outcome, each, each.at, each.at, coalesced=True)) for each in coalesced]
        root = self._root(outcome, last, at, times.planned, links=links)
        self._child(
            root, RECONCILE, times.dirty, times.planned, {"postwarden.reconcile.settled": times.began}
        )
        self._compile(root, outcome, times)
        return _Change(key, at, root)

    def _root(
        self,
        outcome: Outcome,
        write: Write | None,
        start: float,
        end: float,
        *,
        links: list[Link] | None = None,
        coalesced: bool = False,
    ) -> SpanContext:
        assert self._tracer is not None
        said: dict[str, str | int | bool] = {
            "postwarden.policy.namespace": outcome.namespace,
            "postwarden.policy.name": outcome.name,
            "postwarden.policy.generation": outcome.generation if write is None else write.generation,
        }
        if not coalesced and outcome.revision is not None:
            said["postwarden.policy.revision"] = outcome.revision
        if write is not None:
            said["postwarden.policy.resource_version"] = write.resource_version
        if coalesced:
            said["postwarden.policy.coalesced"] = True
        span = self._tracer.start_span(
            CHANGE, Context(), SpanKind.INTERNAL, said, links or (), start_time=_nanoseconds(start)
        )
        span.end(_nanoseconds(max(start, end)))
        return span.get_span_context()

    def _compile(self, root: SpanContext, outcome: Outcome, times: ReconcileTimes) -> None:
        compilation = outcome.compilation
        start, end = compilation.took or (times.began, times.planned)
        why = ""
        if compilation.managed is None:
            problem = (
                compilation.accepted if compilation.accepted.reason == "Invalid" else compilation.resolved
            )
            why = f"{problem.reason}: {problem.message}"
        self._child(root, COMPILE, start, end, {}, why)

    def _child(
        self,
        parent: SpanContext,
        name: str,
        start: float,
        end: float,
        said: dict[str, str | int | float],
        why: str = "",
    ) -> None:
        assert self._tracer is not None
        span = self._tracer.start_span(
            name, _within(parent), SpanKind.INTERNAL, said, start_time=_nanoseconds(start)
        )
        if why:
            span.set_status(Status(StatusCode.ERROR, printable(why, _LONGEST_REASON)))
        span.end(_nanoseconds(max(start, end)))

    # --- push

    def sent(self, pod: Identity, snapshot: pb.Snapshot) -> str:
        self._metrics.pushed("sent")
        known = (self._known or {}).get(snapshot.policy_uid)
        change = known.change if known is not None else None
        overtaken = self._pushes.pop(pod.pod_uid, None)
        if overtaken is not None:
            self._end_push(overtaken, "a newer one was sent")
        if change is None or change.key != (snapshot.policy_uid, snapshot.version):
            return ""
        push = self._pushes[pod.pod_uid] = _Push(snapshot.nonce, change, None)
        if change.trace is None or self._tracer is None:
            return ""
        if change.traced_pods >= MOST_TRACED_PODS or not self._admit(1):
            return traceparent.write(change.trace, sampled=False)
        change.traced_pods += 1
        said = {"k8s.pod.name": pod.name, "k8s.namespace.name": pod.namespace, "k8s.pod.uid": pod.pod_uid}
        push.span = self._tracer.start_span(
            PUSH, _within(change.trace), SpanKind.PRODUCER, said, start_time=_nanoseconds(self._clock())
        )
        return traceparent.write(push.span.get_span_context(), sampled=True)

    def answered(self, pod: Identity, nonce: str, refused: str) -> None:
        self._metrics.pushed("refused" if refused else "applied")
        push = self._pushes.get(pod.pod_uid)
        if push is None or push.nonce != nonce:
            return
        del self._pushes[pod.pod_uid]
        if not refused:
            self._metrics.propagated(self._clock() - push.change.at)
        self._end_push(push, refused)

    def lost(self, pod: Identity) -> None:
        push = self._pushes.pop(pod.pod_uid, None)
        if push is not None:
            self._end_push(push, "the stream ended before an answer")

    def _end_push(self, push: _Push, why: str) -> None:
        if push.span is None:
            return
        if why:
            push.span.set_status(Status(StatusCode.ERROR, printable(why, _LONGEST_REASON)))
        push.span.end(_nanoseconds(self._clock()))


def written_at(times: list[str], heard: float) -> float:
    """When an object was written, of which the latest of its managedFields' times tells the whole second: its end, but not later than
    it was heard of."""
    found = []
    for text in times:
        try:
            found.append(datetime.fromisoformat(text).timestamp())
        except ValueError:
            continue
    return min(max(found) + 1.0, heard) if found else heard


def _same(one: Compilation, other: Compilation) -> bool:
    if one.managed is None or other.managed is None:
        return one.managed is other.managed and one.errors == other.errors
    return one.managed.key == other.managed.key


def _state(outcome: Outcome) -> str:
    if outcome.compilation.compiling:
        return "compiling"
    if (state := _STATES.get(outcome.accepted.reason)) is not None:
        return state
    return "unresolved" if outcome.compilation.managed is None else "accepted"


def _within(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)
