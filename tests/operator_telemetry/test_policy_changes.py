"""The trace of a policy change and the operator's metrics, as an OTLP receiver and Prometheus get them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.telemetry import traceparent
from postwarden.telemetry.reference_page import filled
from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.controlplane.wanted import Managed
from postwarden_operator.policy import FieldError
from postwarden_operator.reconcile.compilation import RESOLVED, VALID, Compilation, Reason
from postwarden_operator.reconcile.observer import ReconcileTimes
from postwarden_operator.reconcile.plan import Outcome, Plan
from postwarden_operator.telemetry.metrics import ReplicaState
from postwarden_operator.telemetry.policy_changes import MOST_TRACED_PODS, PolicyChanges, written_at
from postwarden_operator.telemetry.reference import tables
from postwarden_operator.telemetry.service import Telemetry, TelemetrySettings
from prometheus_client.parser import text_string_to_metric_families
from telemetry.collector import Collector, grpc_collector, plain

NOW = 1_767_323_045.25  # 2026-01-02T03:04:05.25Z
WRITTEN = "2026-01-02T03:04:04Z"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with grpc_collector() as found:
        yield found


class Operator:
    """Its telemetry, with what the rest of it would tell."""

    def __init__(self, url: str | None) -> None:
        self.telemetry = Telemetry(TelemetrySettings(url), {})
        self.changes: PolicyChanges = self.telemetry.changes
        self.now = NOW
        self.changes._clock = lambda: self.now
        self.reconcile()  # what is found at the start is no change

    def reconcile(self, *compilations: Compilation, pods: int = 1) -> None:
        screened = {f"uid-{number}": f"mta-{number}" for number in range(pods)}
        outcomes = tuple(
            Outcome("mail", f"edge-{at}", f"policy-{at}", 3, each, each.accepted, False, screened)
            for at, each in enumerate(compilations)
        )
        wanted = {uid: each.managed for each in compilations if each.managed for uid in screened}
        self.changes.reconciled(
            ReconcileTimes(self.now - 0.06, self.now - 0.01, self.now), Plan(outcomes, wanted)
        )

    def push(self, compilation: Compilation, pod: int = 0) -> str:
        assert compilation.managed is not None
        snapshot = pb.Snapshot()
        snapshot.CopyFrom(compilation.managed.snapshot)
        snapshot.nonce = f"n{self.now}"
        return self.changes.sent(identity(pod), snapshot)

    def answer(self, refused: str = "", pod: int = 0) -> None:
        self.changes.answered(identity(pod), f"n{self.now}", refused)

    def values(self) -> dict[str, float]:
        text = self.telemetry._exposition.text().decode()
        families = text_string_to_metric_families(text)
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
            if family.name != "target"
        }


def identity(pod: int = 0) -> Identity:
    return Identity(f"uid-{pod}", "mail", f"mta-{pod}")


def compiled(version: str, policy: int = 0) -> Compilation:
    snapshot = pb.Snapshot(policy_uid=f"policy-{policy}", revision=f"r-{version}", version=version)
    return Compilation(VALID, RESOLVED, Managed(snapshot, {}), took=(NOW - 0.005, NOW - 0.002))


async def spans(operator: Operator, collector: Collector) -> dict[str, list[Span]]:
    await operator.telemetry.stop()
    found: dict[str, list[Span]] = {}
    for span in collector.spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_an_answer_on_a_later_stream_is_not_that_of_a_push_whose_stream_ended(
    collector: Collector,
) -> None:
    operator = Operator(collector.url)
    change = compiled("v2")
    operator.reconcile(change)
    operator.push(change)
    operator.changes.lost(identity())
    operator.answer()
    assert operator.values()["postwarden_policy_propagation_duration_seconds_count"] == 0
    (push,) = (await spans(operator, collector))["push"]
    assert push.status.message == "the stream ended before an answer"


async def test_a_change_is_followed_from_its_write_to_the_pods_answer(collector: Collector) -> None:
    operator = Operator(collector.url)
    operator.changes.wrote("policy-0", 3, "4711", [WRITTEN])
    change = compiled("v2")
    operator.reconcile(change)
    header = operator.push(change)
    operator.now += 0.5
    operator.changes.answered(identity(), f"n{NOW}", "")
    found = await spans(operator, collector)
    (root,), (push,) = found["policy.change"], found["push"]
    assert root.start_time_unix_nano == round(
        (NOW - 0.25) * 1e9
    )  # the end of the second in which it was written
    assert plain(root.attributes) == {
        "postwarden.policy.namespace": "mail",
        "postwarden.policy.name": "edge-0",
        "postwarden.policy.generation": 3,
        "postwarden.policy.revision": "r-v2",
        "postwarden.policy.resource_version": "4711",
    }
    for name in ("reconcile", "compile", "push"):
        (child,) = found[name]
        assert (child.trace_id, child.parent_span_id) == (root.trace_id, root.span_id)
    (compile_,) = found["compile"]
    assert compile_.end_time_unix_nano - compile_.start_time_unix_nano == pytest.approx(3e6, abs=1e3)
    assert push.end_time_unix_nano - push.start_time_unix_nano == pytest.approx(5e8, abs=1e3)
    assert plain(push.attributes)["k8s.pod.name"] == "mta-0"
    told = traceparent.parse(header)
    assert told is not None
    assert told.trace_flags.sampled
    assert told.span_id == int.from_bytes(push.span_id, "big")
    (resource,) = {each["service.name"] for each in collector.resources()}
    assert resource == "postwarden-operator"
    values = operator.values()
    assert values["postwarden_policy_propagation_duration_seconds_sum"] == pytest.approx(0.75)
    assert values["postwarden_policy_pushes_total applied"] == 1


async def test_coalesced_writes_are_linked(collector: Collector) -> None:
    operator = Operator(collector.url)
    operator.changes.wrote("policy-0", 2, "1", [WRITTEN])
    operator.changes.wrote("policy-0", 3, "2", [WRITTEN])
    operator.reconcile(compiled("v3"))
    first, last = (await spans(operator, collector))["policy.change"]
    assert "postwarden.policy.coalesced" in plain(first.attributes)
    assert "postwarden.policy.coalesced" not in plain(last.attributes)
    assert [link.trace_id for link in last.links] == [first.trace_id]
    assert plain(last.attributes)["postwarden.policy.resource_version"] == "2"


async def test_at_most_twenty_pods_of_a_change_are_traced_and_all_are_counted(collector: Collector) -> None:
    operator = Operator(collector.url)
    change = compiled("v2")
    operator.reconcile(change, pods=50)
    flags = []
    for pod in range(50):
        told = traceparent.parse(operator.push(change, pod))
        assert told is not None
        flags.append(told.trace_flags.sampled)
        operator.answer(pod=pod)
    assert flags == [True] * MOST_TRACED_PODS + [False] * (50 - MOST_TRACED_PODS)
    assert operator.values()["postwarden_policy_propagation_duration_seconds_count"] == 50
    assert len((await spans(operator, collector))["push"]) == MOST_TRACED_PODS


async def test_what_went_wrong_is_told(collector: Collector) -> None:
    operator = Operator(collector.url)
    error = FieldError("spec.access.rules[0]", "is bad")
    operator.reconcile(Compilation(VALID, Reason("BadList", str(error)), None, (error,)))
    good = compiled("v2")
    operator.reconcile(good)
    operator.push(good)
    operator.answer("no room\nfor it")
    newest = compiled("v3")
    operator.reconcile(newest)
    operator.now += 1
    operator.push(newest)
    operator.reconcile(newest, pods=0)  # the pod goes away without an answer
    found = await spans(operator, collector)
    assert [each.status.code for each in found["compile"]] == [Status.STATUS_CODE_ERROR, 0, 0]
    assert found["compile"][0].status.message == "BadList: spec.access.rules[0]: is bad"
    assert [each.status.message for each in found["push"]] == [r"no room\nfor it", "the pod is gone"]
    values = operator.values()
    assert values["postwarden_policy_pushes_total refused"] == 1
    assert "postwarden_policy_propagation_duration_seconds_count" in values


async def test_what_changes_nothing_has_no_trace(collector: Collector) -> None:
    operator = Operator(collector.url)
    same = compiled("v2")
    operator.reconcile(same)
    operator.changes.wrote("policy-0", 4, "9", [WRITTEN])
    operator.reconcile(same)
    operator.reconcile(compiled("v2"))  # compiled anew, to the same
    assert len((await spans(operator, collector))["policy.change"]) == 1
    assert not operator.changes._writes


def test_without_an_endpoint_metrics_are_counted_and_nothing_is_traced() -> None:
    operator = Operator(None)
    change, other = compiled("v2"), Compilation(Reason("Invalid", "bad"), RESOLVED, None)
    operator.reconcile(change, other)
    assert operator.push(change) == ""
    operator.answer()
    operator.changes.failed()
    values = operator.values()
    assert values["postwarden_policies accepted"] == 1
    assert values["postwarden_policies invalid"] == 1
    assert values["postwarden_reconciles_total ok"] == 2
    assert values["postwarden_reconciles_total failed"] == 1
    assert values["postwarden_policy_propagation_duration_seconds_count"] == 1


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ([], NOW),
        (["None", "yesterday"], NOW),
        ([WRITTEN, "2026-01-02T03:04:01Z"], NOW - 0.25),
        (["2026-01-02T03:04:05Z"], NOW),  # this very second
        (["2031-01-01T00:00:00Z"], NOW),  # a clock that is ahead
    ],
)
def test_a_write_is_dated_by_the_whole_second_that_is_known(times: list[str], at: float) -> None:
    assert written_at(times, NOW) == at


async def test_an_unusable_endpoint_is_warned_of_and_prometheus_is_served(
    caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    state = ReplicaState(leading=False, sidecars={"synced": 3})
    settings = TelemetrySettings("collector", ("127.0.0.1", unused_tcp_port))
    telemetry = Telemetry(settings, {}, state=lambda: state)
    await telemetry.start()

    def get() -> bytes:
        with urlopen(f"http://127.0.0.1:{unused_tcp_port}/metrics", timeout=5) as answer:
            content: bytes = answer.read()
            return content

    told = await asyncio.to_thread(get)
    assert b"postwarden_reconciles_total" in told
    assert b'postwarden_sidecars{postwarden_sidecar_state="synced"} 3.0' in told
    assert b'postwarden_sidecars{postwarden_sidecar_state="rejected"} 0.0' in told
    assert b"postwarden_operator_leading 0.0" in told
    await telemetry.stop()
    assert "no OTLP: OTLP endpoint 'collector' is no URL" in caplog.text


def test_the_reference_page_says_what_the_code_does() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/operator-telemetry.md").read_text()
    assert filled(text, tables()) == text
