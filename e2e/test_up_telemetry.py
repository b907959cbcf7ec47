"""`postwarden up` and what a real OTLP receiver gets of it: traces of edits, of connections as the policy has them sampled and masked."""

from collections.abc import Iterator

import pytest
from harness.mail_sink import MailSink
from harness.polling import poll
from harness.sidecar import up
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from telemetry.collector import Collector, grpc_collector, http_collector, plain

EXPORT_TIMEOUT = 10.0
"""Seconds until a span is at the receiver; they are sent in batches of one second."""

ZOMBIE, REFUSED, FRIEND = "127.66.6.6", "127.67.6.6", "127.0.9.9"


def policy(more: str = "", *, wait: str = "100ms") -> str:
    """REFUSED is refused; who comes from ZOMBIE is dropped by a second policy of tests that want it."""
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rules: [{{action: Reject, cidrs: [{REFUSED}]}}]}}
  pregreet: {{wait: {wait}, banner: ""}}
  limits: {{connectionsPerClient: 0}}
{more}
"""


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture(params=["grpc", "http/protobuf"])
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with grpc_collector() if request.param == "grpc" else http_collector() as found:
        yield found


def named(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.spans() if span.name == name]


def test_an_edit_is_one_trace_from_the_file_to_the_workers(sink: MailSink, collector: Collector) -> None:
    with up(policy(), f"--otlp-endpoint={collector.url}", upstream=sink.address, handoff="plain") as sidecar:
        sidecar.edit(policy(wait="200ms"))
        (applied,) = poll(lambda: named(collector, "policy.apply"), EXPORT_TIMEOUT, lambda: "no policy.apply")
        (root,) = poll(lambda: named(collector, "policy.change"), EXPORT_TIMEOUT, lambda: "no policy.change")
        (push,) = poll(lambda: named(collector, "push"), EXPORT_TIMEOUT, lambda: "no push")
        assert (root.trace_id, push.trace_id, push.parent_span_id) == (applied.trace_id,) * 2 + (
            root.span_id,
        )
        assert applied.parent_span_id == push.span_id
        assert {span.name for span in collector.spans() if span.trace_id == root.trace_id} == {
            *("policy.change", "reconcile", "compile", "push", "policy.apply")
        }
        assert plain(root.attributes)["postwarden.policy.name"] == "wall"
    services = {each["service.name"] for each in collector.resources()}
    assert services == {"postwarden-operator", "postwarden-sidecar"}
