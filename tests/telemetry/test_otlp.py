"""Spans, metrics and log records as a real OTLP receiver gets them, over both protocols; and an endpoint that is down."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from controlclient.authority import Authority
from eventually import until
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from postwarden.telemetry.endpoint import OtlpProtocol
from postwarden_sidecar.engine.record import Event, EventKind, Recorded, Verdict
from postwarden_sidecar.ipc import page as cells
from postwarden_sidecar.ipc.page import CELLS, Page
from postwarden_sidecar.telemetry.pipeline import Telemetry
from telemetry.collector import Collector, grpc_collector, http_collector, plain
from telemetry.samples import STARTED, passed, record


@pytest.fixture(params=["grpc", "http/protobuf"])
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with grpc_collector() if request.param == "grpc" else http_collector() as found:
        yield found


async def exported(
    collector: Collector, page: Page, *records: Recorded, environ: dict[str, str] | None = None
) -> list[dict[str, object]]:
    """Observe the records and close; the JSON lines."""
    stream = io.BytesIO()
    telemetry = Telemetry(
        page=page,
        log_format="JSON",
        log_stream=stream,
        hostname="mx",
        pid=1,
        resource={"k8s.pod.name": "mx-0"},
        otlp_endpoint=collector.url,
        environ=environ or {},
    )
    telemetry.observe(records)
    await telemetry.close(10.0)
    assert b'postwarden_telemetry_dropped_total{postwarden_signal="log"} 0' in telemetry.prometheus()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
async def test_a_signal_that_is_not_wanted_is_not_sent_and_nothing_of_it_counts_as_lost(
    signal: str, collector: Collector, page: Page
) -> None:
    (line,) = await exported(collector, page, record(), environ={f"OTEL_{signal.upper()}_EXPORTER": "none"})
    received = {"traces": collector.traces, "metrics": collector.metrics, "logs": collector.logs}
    assert {name for name, requests in received.items() if requests} == {"traces", "metrics", "logs"} - {
        signal
    }
    assert ("trace_id" in line) == (signal != "traces")


async def test_a_signal_with_an_endpoint_of_its_own_goes_there_alone(page: Page) -> None:
    """Over HTTP to that very path, and nothing else for want of an endpoint for all."""
    stream = io.BytesIO()
    with http_collector() as elsewhere, grpc_collector() as common:
        own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{elsewhere.url}/v1/traces"}
        for url in (common.url, None):
            telemetry = Telemetry(
                page=page, log_format="JSON", log_stream=stream, hostname="mx", pid=1, otlp_endpoint=url, environ=own
            )  # fmt: skip
            telemetry.observe([record()])
            await telemetry.close(10.0)
        assert len(elsewhere.traces) == 2
        assert not elsewhere.metrics
        assert not elsewhere.logs
        assert not common.traces
        assert len(common.logs) == 1
        assert common.metrics
    assert b'postwarden_telemetry_dropped_total{postwarden_signal="log"} 0' in telemetry.prometheus()


async def test_a_trace_has_a_server_span_with_its_children_and_times(
    collector: Collector, page: Page
) -> None:
    (line,) = await exported(collector, page, passed())
    spans = {span.name: span for span in collector.spans()}
    assert sorted(spans) == ["handoff", "pregreet", "smtp.screen"]
    root = spans["smtp.screen"]
    assert root.kind == root.SPAN_KIND_SERVER
    assert root.parent_span_id == b""
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (STARTED * 1e9, (STARTED + 6.25) * 1e9)
    attributes = plain(root.attributes)
    assert attributes["client.address"] == "192.168.7.9"
    assert attributes["client.port"] == 40001
    assert attributes["server.address"] == "192.0.2.25"
    assert attributes["network.peer.address"] == "10.0.0.3"
    assert attributes["network.peer.port"] == 40002
    assert attributes["network.transport"] == "tcp"
    assert attributes["network.protocol.name"] == "smtp"
    assert attributes["postwarden.verdict"] == "pass_new"
    assert attributes["postwarden.policy.name"] == "edge"
    assert "error.type" not in attributes
    assert [event.name for event in root.events] == ["connect", "pass_new"]
    for name, start, end in (("pregreet", 0.0, 6.0), ("handoff", 6.0, 6.25)):
        child = spans[name]
        assert (child.trace_id, child.parent_span_id) == (root.trace_id, root.span_id)
        assert child.start_time_unix_nano == round((STARTED + start) * 1e9)
        assert child.end_time_unix_nano == round((STARTED + end) * 1e9)
    assert plain(spans["pregreet"].attributes) == {
        "postwarden.test": "pregreet",
        "postwarden.outcome": "pass",
    }
    assert plain(spans["handoff"].attributes) == {"postwarden.handoff": "ProxyV2"}
    assert (line["trace_id"], line["span_id"]) == (root.trace_id.hex(), root.span_id.hex())


async def test_a_dialogue_has_a_span_and_a_fault_of_ours_an_error(collector: Collector, page: Page) -> None:
    await exported(collector, page, record(verdict=Verdict.ERROR, reason="a fault"))
    spans = {span.name: span for span in collector.spans()}
    assert sorted(spans) == ["smtp.dialog", "smtp.screen"]
    assert spans["smtp.dialog"].start_time_unix_nano == round((STARTED + 0.5) * 1e9)
    root = spans["smtp.screen"]
    assert plain(root.attributes)["error.type"] == "_OTHER"
    assert (root.status.code, root.status.message) == (root.status.STATUS_CODE_ERROR, "a fault")


async def test_a_failed_handoff_says_how(collector: Collector, page: Page) -> None:
    failed = Event(EventKind.HANDOFF_FAILED, 6.2, "unreachable")
    await exported(collector, page, passed(verdict=Verdict.DEFERRED, events=[failed]))
    (span,) = (span for span in collector.spans() if span.name == "handoff")
    assert plain(span.attributes)["postwarden.handoff.outcome"] == "unreachable"


async def test_log_records_are_joined_to_their_trace(collector: Collector, page: Page) -> None:
    await exported(collector, page, passed(), record(verdict=Verdict.DEFERRED, reason="no\nroom"))
    first, second = sorted(collector.log_records(), key=lambda found: found.time_unix_nano, reverse=True)
    roots = {span.trace_id: span for span in collector.spans() if span.name == "smtp.screen"}
    assert roots[first.trace_id].span_id == first.span_id
    assert first.body.string_value == "passed pregreet"
    assert first.event_name == "postwarden.connection"
    assert plain(first.attributes)["postwarden.verdict"] == "pass_new"
    assert first.severity_number == SeverityNumber.SEVERITY_NUMBER_INFO
    assert (second.severity_text, second.body.string_value) == ("WARN", r"no\nroom")


async def test_what_is_dropped_and_not_sampled_has_a_line_only(collector: Collector, page: Page) -> None:
    dropped = [record(verdict=Verdict.DROPPED)] * 200
    lines = await exported(collector, page, *dropped)
    traces = len({span.trace_id for span in collector.spans()})
    assert len(lines) == 200
    assert traces <= 10  # of 1 % and 10 a second
    assert len(collector.log_records()) == traces
    assert sum("trace_id" in line for line in lines) == traces


async def test_metrics_are_those_of_the_page(collector: Collector, page: Page) -> None:
    for worker, count in ((0, 3), (5, 4)):
        slot = page.slot(worker)
        slot[CELLS[cells.connections(Verdict.DROPPED)]] = count
        slot[CELLS[cells.tests("pregreet", "fail", "Drop")]] = count
        slot[CELLS[cells.duration_bucket(Verdict.DROPPED, 2)]] = count
        slot[CELLS[cells.active("relay")]] = count
        slot[CELLS[cells.duration_sum(Verdict.DROPPED)]] = 1_500_000
        slot[CELLS[cells.RECORDS_DROPPED]] = 1
        slot[CELLS[cells.SCREENING]] = count
        slot[CELLS[cells.UPSTREAM]] = count - 1
        slot[CELLS[cells.STRESS]] = 2 * count + (worker == 0)  # ended by the other worker, later
    before = time.time_ns()
    await exported(collector, page)
    metrics = collector.latest_metrics()
    connections = metrics["postwarden.connections"]
    assert (connections.unit, connections.sum.is_monotonic) == ("{connection}", True)
    assert connections.sum.aggregation_temporality == 2  # cumulative
    by_verdict = {plain(p.attributes)["postwarden.verdict"]: p for p in connections.sum.data_points}
    assert {verdict: point.as_int for verdict, point in by_verdict.items()} == dict.fromkeys(Verdict, 0) | {
        "dropped": 7
    }
    assert before <= by_verdict["dropped"].start_time_unix_nano <= by_verdict["dropped"].time_unix_nano
    tests = {
        tuple(plain(p.attributes).values()): p.as_int for p in metrics["postwarden.tests"].sum.data_points
    }
    assert tests["pregreet", "fail", "Drop"] == 7
    assert tests["access", "pass"] == 0
    durations = metrics["postwarden.screening.duration"].histogram.data_points
    assert {plain(each.attributes)["postwarden.verdict"] for each in durations} == set(Verdict)
    (duration,) = (each for each in durations if each.count)
    assert (duration.count, duration.sum, duration.bucket_counts[2]) == (7, 3.0, 7)
    assert tuple(duration.explicit_bounds) == cells.DURATION_BOUNDS
    assert not duration.HasField("min")
    active = metrics["postwarden.connections.active"].sum
    assert not active.is_monotonic
    assert {plain(p.attributes)["postwarden.stage"]: p.as_int for p in active.data_points}["relay"] == 7
    for name, value in (
        ("connections.screening", 7),
        ("connections.upstream", 5),
        ("stress", 0),
        ("steering.failed", 0),
    ):
        level = metrics[f"postwarden.{name}"].sum
        assert ([point.as_int for point in level.data_points], level.is_monotonic) == ([value], False)
    lost = {
        plain(p.attributes)["postwarden.signal"]: p.as_int
        for p in metrics["postwarden.telemetry.dropped"].sum.data_points
    }
    assert lost == {"record": 2, "line": 0, "span": 0, "log": 0}


async def test_all_signals_name_the_same_resource(collector: Collector, page: Page) -> None:
    await exported(collector, page, passed())
    first, *others = collector.resources()
    assert len(others) >= 2
    assert all(other == first for other in others)
    assert (first["service.name"], first["k8s.pod.name"]) == ("postwarden-sidecar", "mx-0")
    assert first["service.version"]
    assert first["service.instance.id"]


async def test_metrics_are_sent_without_waiting_for_the_end(page: Page) -> None:
    with grpc_collector() as collector:
        telemetry = Telemetry(
            page=page,
            log_format="JSON",
            log_stream=None,
            hostname="mx",
            pid=1,
            otlp_endpoint=collector.url,
            metrics_interval=0.01,
        )
        arrived = threading.Event()
        watcher = threading.Thread(target=_until, args=(lambda: len(collector.metrics) >= 2, arrived))
        watcher.start()
        assert arrived.wait(10)
        watcher.join()
        await telemetry.close(10.0)


def _until(condition: Callable[[], bool], reached: threading.Event) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    if condition():
        reached.set()


@contextlib.contextmanager
def silent_endpoint() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def closed_endpoint() -> Iterator[str]:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield url


SECONDS = 5.0  # half of what the exporters wait for an answer (OTEL_EXPORTER_OTLP_TIMEOUT's default)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("endpoint", [closed_endpoint, silent_endpoint])
async def test_a_dead_endpoint_costs_no_time_and_is_warned_of_once(
    page: Page,
    protocol: OtlpProtocol,
    endpoint: Callable[[], contextlib.AbstractContextManager[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = io.BytesIO()
    with endpoint() as url:
        telemetry = Telemetry(
            page=page,
            log_format="JSON",
            log_stream=stream,
            hostname="mx",
            pid=1,
            otlp_endpoint=url,
            otlp_protocol=protocol,
            metrics_interval=0.01,
        )
        # Our thread's own time: what others take of a busy machine is no cost of the endpoint. Who waited for it would wait for SECONDS.
        begin, worked = time.monotonic(), time.thread_time()
        for _ in range(40):
            telemetry.observe([passed()] * 100)
        assert time.thread_time() - worked < 0.5
        assert time.monotonic() - begin < SECONDS
        await until(lambda: stream.getvalue().count(b"\n") == 4000)
        begin = time.monotonic()
        await telemetry.close(2.0)
        assert time.monotonic() - begin < SECONDS
        assert b'signal="log"' in telemetry.prometheus()
    (warning,) = [entry for entry in caplog.records if entry.name == "postwarden.telemetry"]
    assert (warning.levelno, url in warning.getMessage()) == (logging.WARNING, True)


async def test_headers_and_the_authority_come_from_the_usual_variables(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority("of the collector")
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pem)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trusted))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret")
    seen: list[dict[str, str | bytes]] = []
    key, certificate = authority.leaf()
    with grpc_collector(
        lambda context: seen.append(dict(context.invocation_metadata())),
        grpc.ssl_server_credentials([(key, certificate)]),
    ) as collector:
        lines = await exported(collector, page, passed())
    assert len(lines) == 1
    assert len(collector.log_records()) == 1
    assert {names["authorization"] for names in seen} == {"Bearer s3cret"}
    # An earlier test's threads may still complain of their silent endpoint.
    assert [entry for entry in caplog.records if entry.name.startswith("postwarden")] == []
