"""What telemetry backends receive from a real sidecar: an OTLP receiver, Prometheus, the log; and that none of them can stop mail."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.mail_sink import MailSink
from harness.polling import poll
from harness.screening_objects import policy, policy_object, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.sidecar_process import SidecarProcess
from loopback_ports import free_ports
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from telemetry.collector import Collector, grpc_collector, plain

ZOMBIE, FRIEND = "127.66.6.6", "127.0.9.9"
VICTIM = "victim@example.org"

EXPORT_TIMEOUT = 20.0
"""Seconds until a verdict is at the receiver; it is sent in batches of five seconds."""

SCREENING = {
    "access": {"myNetworks": [], "rules": [{"action": "Reject", "cidrs": ["127.66.0.0/16"]}]},
    "pregreet": {"banner": "mail.example.org ESMTP", "wait": "1s"},
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with grpc_collector() as receiver:
        yield receiver


def find_span(collector: Collector, **attributes: str) -> Span:
    """The root span with these attributes (dots written as `__`). Raises TimeoutError."""
    wanted = {key.replace("__", "."): value for key, value in attributes.items()}
    return poll(
        lambda: next(
            (
                span
                for span in collector.spans()
                if span.name == "smtp.screen" and wanted.items() <= plain(span.attributes).items()
            ),
            None,
        ),
        EXPORT_TIMEOUT,
        lambda: f"no trace with {wanted} among {[plain(span.attributes) for span in collector.spans()]}",
    )


def children(collector: Collector, root: Span) -> set[str]:
    of_trace = [span for span in collector.spans() if span.trace_id == root.trace_id]
    return {span.name for span in of_trace if span.parent_span_id == root.span_id}


def find_log(collector: Collector, trace: bytes) -> LogRecord:
    """The log record that is joined to the trace. Raises TimeoutError."""
    return poll(
        lambda: next((record for record in collector.log_records() if record.trace_id == trace), None),
        EXPORT_TIMEOUT,
        lambda: "no log record with that trace's id",
    )


def test_rejected_and_passed_clients_are_found_in_traces_metrics_and_logs(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar, collector: Collector
) -> None:
    sidecar = start_sidecar(
        options=[f"--otlp-endpoint={collector.url}"],
        variables={"POD_NAME": "mta-0", "POD_NAMESPACE": namespace},
    )
    api_server.apply(policy("wall", namespace, **SCREENING))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    assert last_reply_to_mail(sidecar.address, ZOMBIE, recipient=VICTIM).startswith("550 5.3.2")
    assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")

    rejected = find_span(
        collector,
        postwarden__verdict="rejected",
        client__address=ZOMBIE,
        postwarden__recipient=VICTIM,
    )
    said = plain(rejected.attributes)
    assert said["postwarden.test"] == "access"
    assert (said["postwarden.helo"], said["postwarden.sender"]) == ("client.test", "sender@client.test")
    revision = policy_object(api_server, "wall", namespace)["status"]["revision"]
    assert (said["postwarden.policy.name"], said["postwarden.policy.namespace"]) == ("wall", namespace)
    assert said["postwarden.policy.revision"] == revision
    assert children(collector, rejected) >= {"smtp.dialog"}
    log = find_log(collector, rejected.trace_id)
    assert plain(log.attributes) == said
    assert log.body.string_value == said["postwarden.reason"]

    passed = find_span(collector, postwarden__verdict="pass_new", client__address=FRIEND)
    assert children(collector, passed) == {"pregreet", "smtp.dialog", "handoff"}
    assert passed.end_time_unix_nano - passed.start_time_unix_nano >= 1_000_000_000  # its wait
    assert plain(find_log(collector, passed.trace_id).attributes)["client.address"] == FRIEND

    # The line in the pod's own log leads to the same trace.
    line = sidecar.wait_for_record(lambda record: record["postwarden.verdict"] == "rejected")
    assert line["trace_id"] == rejected.trace_id.hex()
    assert line["postwarden.recipient"] == VICTIM

    assert sidecar.stop() == 0  # the last metrics are sent at the end
    connections = collector.latest_metrics()["postwarden.connections"]
    counted = {
        plain(point.attributes)["postwarden.verdict"]: point.as_int for point in connections.sum.data_points
    }
    assert (counted["rejected"], counted["pass_new"]) == (1, 1)
    for resource in collector.resources():
        assert resource["service.name"] == "postwarden-sidecar"
        assert (resource["k8s.pod.name"], resource["k8s.namespace.name"]) == ("mta-0", namespace)


def test_prometheus_reads_the_same_counts_as_the_log(
    api_server: ApiServer, namespace: str, start_sidecar: StartSidecar
) -> None:
    sidecar = start_sidecar()
    api_server.apply(policy("wall", namespace, **SCREENING))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    assert first_reply(sidecar.address, FRIEND).startswith("220")
    for _ in range(3):
        assert last_reply_to_mail(sidecar.address, ZOMBIE).startswith("550")
    sidecar.wait_for_record(lambda _: len(sidecar.records()) == 4)
    families = {family.name: family for family in text_string_to_metric_families(sidecar.metrics())}
    connections = {
        sample.labels["postwarden_verdict"]: sample.value
        for sample in families["postwarden_connections"].samples
        if sample.value
    }
    assert connections == Counter(record["postwarden.verdict"] for record in sidecar.records())
    assert connections["rejected"] == 3
    screening = families["postwarden_screening_duration_seconds"].samples
    assert sum(sample.value for sample in screening if sample.name.endswith("_count")) == 4


@contextmanager
def endpoint(kind: str) -> Iterator[str]:
    """An OTLP endpoint that is of no use."""
    if kind == "no URL":
        yield "collector"
    elif kind == "nobody listens":
        yield f"http://127.0.0.1:{free_ports(1)[0]}"
    else:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["no URL", "nobody listens", "never answers"])
def test_useless_otlp_endpoint_is_warned_of_and_stops_no_mail(
    kind: str, mail_sink: MailSink, tmp_path: Path
) -> None:
    with (
        endpoint(kind) as url,
        SidecarProcess(tmp_path, upstream=mail_sink.address, options=[f"--otlp-endpoint={url}"]) as sidecar,
    ):
        for _ in range(20):
            assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")
        assert len(mail_sink.recipients) == 20
        sidecar.wait_for_record(lambda _: len(sidecar.records()) == 20)
        assert sidecar.health("/readyz") == 200
        assert sidecar.stop() == 0
        assert "OTLP" in sidecar.log()
        assert url in sidecar.log()
        assert "Traceback" not in sidecar.log()
