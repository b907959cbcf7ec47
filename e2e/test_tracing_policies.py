"""The trace of a `kubectl apply`, found in a real Jaeger by the policy's name: from the write to 'applied in pod X'."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from harness.cluster import ApiServer
from harness.documented import documented_search
from harness.jaeger import Jaeger
from harness.operator_fixtures import alone
from harness.operator_process import OperatorProcess
from harness.screening_objects import policy, policy_object, reject, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar

CLOCK = 0.002
"""Seconds by which moments may differ that different processes tell, or that Jaeger has rounded."""

PODS = ("mta-0", "mta-1")
# Its port is none by which OTLP's protocols are told apart, and it takes neither metrics nor logs.
JAEGER = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}
COMPLETE = ("policy.change", "reconcile", "compile", *("push", "policy.apply") * len(PODS))


@pytest.fixture
def operator(api_server: ApiServer, jaeger: Jaeger) -> Iterator[OperatorProcess]:
    """In place of the shared one: with telemetry."""
    with alone(), OperatorProcess(api_server, options=[f"--otlp-endpoint={jaeger.grpc_url}"]) as started:
        yield started


def test_an_apply_is_found_by_the_policys_name_and_leads_to_the_pods_that_have_it(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar, jaeger: Jaeger
) -> None:
    otlp = f"--otlp-endpoint={jaeger.http_url}"
    sidecars = [
        start_sidecar(pod, options=[otlp], variables={"POD_NAME": pod, "POD_NAMESPACE": namespace, **JAEGER})
        for pod in PODS
    ]
    api_server.apply(policy("wall", namespace, access=reject("127.66.0.0/16")))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    in_force = time.time()

    known = {"postwarden.policy.namespace": namespace, "postwarden.policy.name": "wall"}
    search = documented_search("a policy that was changed", known)
    trace = jaeger.wait_for(*search, names=COMPLETE)
    root = trace.root
    assert root.name == "policy.change"
    assert {child.name for child in trace.children(root)} == {"reconcile", "compile", "push"}
    assert {span.service for span in trace.spans} == {"postwarden-operator", "postwarden-sidecar"}
    written = policy_object(api_server, "wall", namespace)
    assert root.attributes["postwarden.policy.revision"] == written["status"]["revision"]

    # Begins in the second in which kubectl wrote it, or at its end; all is over when the status says so.
    (times,) = [each["time"] for each in written["metadata"]["managedFields"] if "subresource" not in each]
    second = datetime.fromisoformat(times).timestamp()
    assert second <= root.start <= second + 1 + CLOCK
    assert max(span.end for span in trace.spans) <= in_force + CLOCK

    pushes = {each.attributes["k8s.pod.name"]: each for each in trace.named("push")}
    assert set(pushes) == set(PODS)
    for applied in trace.named("policy.apply"):
        push = pushes[applied.resource["k8s.pod.name"]]
        assert applied.parent == push.id
        assert push.start - CLOCK <= applied.start <= applied.end <= push.end + CLOCK
        assert applied.attributes["postwarden.policy.name"] == "wall"
    reconcile, compiled = trace.span("reconcile"), trace.span("compile")
    assert root.start - CLOCK <= reconcile.start <= compiled.start <= compiled.end <= reconcile.end + CLOCK
    assert min(each.start for each in pushes.values()) >= reconcile.end - CLOCK

    by_pod = documented_search("the pod that should have it", {"k8s.pod.name": PODS[1]})
    assert trace.id in [found.id for found in jaeger.find(*by_pod)]
    for sidecar in sidecars:
        assert sidecar.stop() == 0
        assert "OTLP" not in sidecar.log()
