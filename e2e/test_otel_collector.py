"""Telemetry by way of an OpenTelemetry collector: all three signals arrive, by both protocols; and one that is killed harms no mail."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.collector import OtelCollector, plain
from harness.jaeger import Jaeger
from harness.mail_attempt import last_reply_to_mail
from harness.mail_flow import MailFlow
from harness.mail_sink import MailSink
from harness.operator_fixtures import alone
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.postfix import Postfix
from harness.screening_objects import policy, wait_for_reasons
from harness.sidecar_fixtures import StartSidecar
from harness.sidecar_process import SidecarProcess
from prometheus_client.parser import text_string_to_metric_families

ZOMBIE, FRIEND = "127.66.6.6", "127.0.9.9"
VICTIM = "victim@example.org"
SIDECAR = "postwarden-sidecar"

EXPORT_TIMEOUT = 20.0
"""Seconds until what is sent in batches of five seconds is there."""

SCREENING = {
    "access": {"myNetworks": [], "rules": [{"action": "Reject", "cidrs": ["127.66.0.0/16"]}]},
    "pregreet": {"banner": "mail.example.org ESMTP", "wait": "1s"},
}


@pytest.fixture
def operator(api_server: ApiServer, otel_collector: OtelCollector) -> Iterator[OperatorProcess]:
    """In place of the shared one: with telemetry."""
    options = [f"--otlp-endpoint={otel_collector.grpc_url}"]
    with alone(), OperatorProcess(api_server, options=options) as started:
        yield started


def wait_for_log_record(collector: OtelCollector, trace: str) -> dict[str, str]:
    """The attributes of the log record that is joined to the trace. Raises TimeoutError."""
    found = poll(
        lambda: next(
            (
                record
                for resource in collector.received("resourceLogs")
                for scope in resource["scopeLogs"]
                for record in scope["logRecords"]
                if record["traceId"] == trace
            ),
            None,
        ),
        EXPORT_TIMEOUT,
        lambda: "no log record with that trace's id",
    )
    return plain(found["attributes"])


def connections(collector: OtelCollector) -> dict[str, int] | None:
    """By verdict, those that there were: the newest word of a sidecar's metrics."""
    points = [
        metric["sum"]["dataPoints"]
        for resource in collector.received("resourceMetrics")
        if plain(resource["resource"]["attributes"])["service.name"] == SIDECAR
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        if metric["name"] == "postwarden.connections"
    ]
    if not points:
        return None
    counted = {plain(each["attributes"])["postwarden.verdict"]: int(each["asInt"]) for each in points[-1]}
    return {verdict: count for verdict, count in counted.items() if count}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_collector_takes_traces_metrics_and_logs_compressed_and_gives_the_traces_to_jaeger(
    protocol: str,
    api_server: ApiServer,
    namespace: str,
    start_sidecar: StartSidecar,
    postfix_root: Path,
    otel_collector: OtelCollector,
    jaeger: Jaeger,
) -> None:
    # By the port alone the sidecar knows which protocol is meant.
    url = otel_collector.grpc_url if protocol == "grpc" else otel_collector.http_url
    variables = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "POD_NAME": "mta-0", "POD_NAMESPACE": namespace}
    with Postfix(postfix_root) as postfix:
        sidecar = start_sidecar(
            upstream=postfix.address, options=[f"--otlp-endpoint={url}"], variables=variables
        )
        api_server.apply(policy("wall", namespace, **SCREENING))
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        assert last_reply_to_mail(sidecar.address, ZOMBIE, recipient=VICTIM).startswith("550 5.3.2")
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")

        for verdict, client in (("rejected", ZOMBIE), ("pass_new", FRIEND)):
            known = {"postwarden.verdict": verdict, "postwarden.policy.namespace": namespace}
            trace = jaeger.wait_for(SIDECAR, "smtp.screen", {**known, "client.address": client})
            assert trace.root.resource["k8s.pod.name"] == "mta-0"
            log = wait_for_log_record(otel_collector, trace.id)
            assert (log["postwarden.verdict"], log["client.address"]) == (verdict, client)

        change = {"postwarden.policy.namespace": namespace, "postwarden.policy.name": "wall"}
        names = ("policy.change", "push", "policy.apply")
        trace = jaeger.wait_for("postwarden-operator", "policy.change", change, names=names)
        assert {span.service for span in trace.spans} == {"postwarden-operator", SIDECAR}

        assert sidecar.stop() == 0  # the last metrics are sent at the end
        poll(
            lambda: connections(otel_collector) == {"rejected": 1, "pass_new": 1},
            EXPORT_TIMEOUT,
            lambda: f"the metrics are {connections(otel_collector)}",
        )
        assert "does not take" not in sidecar.log()


def dropped(sidecar: SidecarProcess) -> dict[str, float]:
    """Telemetry that was lost, by signal, as Prometheus is told."""
    families = {family.name: family for family in text_string_to_metric_families(sidecar.metrics())}
    samples = families["postwarden_telemetry_dropped"].samples
    return {sample.labels["postwarden_signal"]: sample.value for sample in samples}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_collector_that_is_killed_and_comes_back_disturbs_no_mail(
    protocol: str, otel_collector: OtelCollector, jaeger: Jaeger, mail_sink: MailSink, tmp_path: Path
) -> None:
    url = otel_collector.grpc_url if protocol == "grpc" else otel_collector.http_url
    before, after = ("127.0.9.41", "127.0.9.42") if protocol == "grpc" else ("127.0.9.43", "127.0.9.44")
    variables = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with SidecarProcess(
        tmp_path, upstream=mail_sink.address, options=[f"--otlp-endpoint={url}"], variables=variables
    ) as sidecar:
        with MailFlow(sidecar) as flow:
            assert last_reply_to_mail(sidecar.address, before).startswith("250 2.0.0")
            jaeger.wait_for(SIDECAR, "smtp.screen", {"client.address": before})
            assert set(dropped(sidecar).values()) == {0}

            otel_collector.kill()
            flow.wait_for(10)
            poll(
                lambda: dropped(sidecar)["span"] and dropped(sidecar)["log"],
                EXPORT_TIMEOUT,
                lambda: f"nothing is counted as dropped: {dropped(sidecar)}",
            )
            assert sidecar.health("/readyz") == 200

            otel_collector.start()
            poll(
                lambda: (
                    last_reply_to_mail(sidecar.address, after).startswith("250 2.0.0")
                    and jaeger.find(SIDECAR, "smtp.screen", {"client.address": after})
                ),
                EXPORT_TIMEOUT,
                lambda: f"no trace since the collector is back:\n{sidecar.log_tail()}",
            )
            lost = dropped(sidecar)
            flow.wait_for(10)
        assert flow.refused() == []
        assert mail_sink.recipients.count("flow@example.org") == len(flow.replies)
        assert sidecar.stop() == 0
        assert (lost["record"], lost["line"]) == (0, 0)  # every connection has its line in the log
        assert sidecar.log().count("does not take") == 1
        poll(lambda: connections(otel_collector), EXPORT_TIMEOUT, lambda: "no metrics")
        assert connections(otel_collector) == {"unscreened": len(mail_sink.recipients)}
