"""The trace of a `kubectl apply`: from its write through the operator to the sidecar that has it in force, at an OTLP receiver."""

import socket
import urllib.request
from collections.abc import Iterator

import pytest
from harness.cluster import ApiServer
from harness.operator_fixtures import alone
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.screening_objects import policy, policy_object, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from loopback_ports import free_port
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from telemetry.collector import Collector, grpc_collector, plain

EXPORT_TIMEOUT = 20.0
"""Seconds until a span is at the receiver, or given up: they are sent in batches of one second, with further attempts."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with grpc_collector() as receiver:
        yield receiver


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def operator(api_server: ApiServer, collector: Collector, metrics_port: int) -> Iterator[OperatorProcess]:
    """In place of the shared one: with telemetry."""
    options = [f"--otlp-endpoint={collector.url}", f"--metrics=127.0.0.1:{metrics_port}"]
    with alone(), OperatorProcess(api_server, options=options) as started:
        yield started


def change_to(collector: Collector, revision: str) -> Span:
    """The root span of the change to that revision. Raises TimeoutError."""
    return poll(
        lambda: next(
            (
                span
                for span in collector.spans()
                if span.name == "policy.change"
                and plain(span.attributes).get("postwarden.policy.revision") == revision
            ),
            None,
        ),
        EXPORT_TIMEOUT,
        lambda: f"no change to {revision} among {[span.name for span in collector.spans()]}",
    )


def apply_span(collector: Collector, trace: bytes) -> Span:
    """The sidecar's. Raises TimeoutError."""
    return poll(
        lambda: next(
            (s for s in collector.spans() if s.name == "policy.apply" and s.trace_id == trace), None
        ),
        EXPORT_TIMEOUT,
        lambda: "the sidecar has no span in that trace",
    )


def test_an_apply_is_one_trace_from_its_write_to_the_pod_that_has_it_in_force(
    api_server: ApiServer,
    namespace: str,
    start_sidecar: StartSidecar,
    collector: Collector,
    metrics_port: int,
) -> None:
    start_sidecar(options=[f"--otlp-endpoint={collector.url}"], variables={"POD_NAME": "mta-0"})
    for wait in ("1s", "2s"):
        api_server.apply(policy("wall", namespace, pregreet={"wait": wait}))
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        written = policy_object(api_server, "wall", namespace)
        root = change_to(collector, written["status"]["revision"])
        applied = apply_span(collector, root.trace_id)
        spans = {span.name: span for span in collector.spans() if span.trace_id == root.trace_id}
        assert set(spans) == {"policy.change", "reconcile", "compile", "push", "policy.apply"}
        for name in ("reconcile", "compile", "push"):
            assert spans[name].parent_span_id == root.span_id
        push = spans["push"]
        assert applied.parent_span_id == push.span_id
        starts = [spans[name].start_time_unix_nano for name in ("policy.change", "push", "policy.apply")]
        assert starts == sorted(starts)
        assert applied.end_time_unix_nano <= push.end_time_unix_nano
        said = plain(root.attributes)
        assert said["postwarden.policy.generation"] == written["metadata"]["generation"]
        assert plain(push.attributes)["k8s.pod.name"] == "mta-0"
    services = {each["service.name"] for each in collector.resources()}
    assert services == {"postwarden-operator", "postwarden-sidecar"}

    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
        families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
    propagation = {
        sample.name.rpartition("_")[2]: sample.value
        for sample in families["postwarden_policy_propagation_duration_seconds"].samples
    }
    assert propagation["count"] == 2
    assert 0 < propagation["sum"] < 20


@pytest.mark.parametrize("kind", ["no URL", "nobody listens", "never answers"])
def test_an_operator_with_a_useless_endpoint_warns_once_and_pushes_policies(
    api_server: ApiServer, operator: OperatorProcess, namespace: str, start_sidecar: StartSidecar, kind: str
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = {
            "no URL": "collector",
            "nobody listens": f"http://127.0.0.1:{free_port()}",
            "never answers": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }[kind]
        options = [f"--otlp-endpoint={url}", f"--metrics=127.0.0.1:{port}"]
        with operator.frozen(), OperatorProcess(api_server, options=options) as useless:
            start_sidecar(operator=useless)
            for wait in ("1s", "2s"):
                api_server.apply(policy("wall", namespace, pregreet={"wait": wait}))
                wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
            if kind == "nobody listens":
                poll(lambda: lost_spans(port), EXPORT_TIMEOUT, lambda: "no span is lost")
            useless.stop()
            warnings = [line for line in useless.log().splitlines() if "OTLP" in line]
            assert len(warnings) == 1, warnings
            assert url in warnings[0]
            assert "Traceback" not in useless.log()


def lost_spans(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
    return sum(sample.value for sample in families["postwarden_telemetry_dropped"].samples)
