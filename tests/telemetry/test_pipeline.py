"""The pipeline without an endpoint: lines, formats, Prometheus, and what happens when the log stream does not take them."""

from __future__ import annotations

import io
import os
import threading
import time
from typing import Any

import pytest
from postwarden_sidecar.dns.outcome import Outcome
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc import page as cells
from postwarden_sidecar.ipc.page import CELLS, Page
from postwarden_sidecar.rules.settings import Limits, LogFormat
from postwarden_sidecar.telemetry.pipeline import QUEUE_LIMIT, Telemetry
from postwarden_sidecar.telemetry.sidecar_state import SidecarState
from prometheus_client.parser import text_string_to_metric_families
from telemetry.samples import passed, record


def telemetry(page: Page, stream: Any, **settings: Any) -> Telemetry:
    return Telemetry(
        page=page,
        log_stream=stream,
        hostname="mx",
        pid=7,
        **({"log_format": "JSON", "environ": {}} | settings),
    )


def series(found: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(found.prometheus().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def lost(found: Telemetry, signal: str) -> float:
    return series(found)["postwarden_telemetry_dropped_total", frozenset({("postwarden_signal", signal)})]


async def test_a_new_format_holds_for_records_observed_from_then_on(page: Page) -> None:
    stream = io.BytesIO()
    found = telemetry(page, stream)
    found.observe([passed()])
    found.set_log_format(LogFormat.POSTSCREEN)
    found.observe([record()])
    found.set_log_format("PostscreenLegacy")
    found.observe([record()])
    found.set_log_format("pretty")
    found.observe([record()])
    await found.close()
    lines = stream.getvalue().decode().splitlines()
    assert len(lines) == 1 + 4 + 4 + 1
    assert lines[0].startswith('{"time":"2026-01-02T03:04:05.250000Z"')
    assert lines[2].endswith(" mx postfix/postscreen[7]: DENYLISTED [192.168.7.9]:40001")
    assert lines[6].endswith(" mx postfix/postscreen[7]: BLACKLISTED [192.168.7.9]:40001")
    assert "rejected     192.168.7.9:40001" in lines[9]


async def test_prometheus_gets_the_pages_values_under_its_own_names(page: Page) -> None:
    slot = page.slot(1)
    slot[CELLS[cells.connections(Verdict.DROPPED)]] = 7
    slot[CELLS[cells.tests("pregreet", "fail", "Drop")]] = 7
    slot[CELLS[cells.active("relay")]] = 2
    slot[CELLS[cells.duration_bucket(Verdict.DROPPED, 0)]] = 3
    slot[CELLS[cells.duration_bucket(Verdict.DROPPED, len(cells.DURATION_BOUNDS))]] = 1
    slot[CELLS[cells.duration_sum(Verdict.DROPPED)]] = 400_000_000
    slot[CELLS[cells.RECORDS_DROPPED]] = 5
    for worker in (1, 2):
        page.slot(worker)[CELLS[cells.SCREENING]] = 3
        page.slot(worker)[CELLS[cells.UPSTREAM]] = worker
    page.slot(1)[CELLS[cells.STRESS]] = 2 * 10**9  # ended then
    page.slot(2)[CELLS[cells.STRESS]] = 2 * 10**10 + 1  # and began again later
    page.slot(cells.SUPERVISOR)[CELLS[cells.STEERING_FAILED]] = 1
    found = telemetry(page, None, resource={"k8s.pod.name": "mx-0"})
    values = series(found)
    await found.close()
    assert values["postwarden_connections_total", frozenset({("postwarden_verdict", "dropped")})] == 7
    assert values["postwarden_connections_total", frozenset({("postwarden_verdict", "pass_new")})] == 0
    failed = {("postwarden_test", "pregreet"), ("postwarden_outcome", "fail"), ("postwarden_action", "Drop")}
    assert values["postwarden_tests_total", frozenset(failed)] == 7
    assert values["postwarden_connections_active", frozenset({("postwarden_stage", "relay")})] == 2
    dropped = ("postwarden_verdict", "dropped")
    for bound, count in (("0.0001", 3), ("300.0", 3), ("+Inf", 4)):
        bucket = frozenset({dropped, ("le", bound)})
        assert values["postwarden_screening_duration_seconds_bucket", bucket] == count
    assert values["postwarden_screening_duration_seconds_sum", frozenset({dropped})] == 400
    assert values["postwarden_screening_duration_seconds_count", frozenset({dropped})] == 4
    assert values["postwarden_connections_screening", frozenset()] == 6
    assert values["postwarden_connections_upstream", frozenset()] == 3
    assert values["postwarden_stress", frozenset()] == 1
    assert values["postwarden_steering_failed", frozenset()] == 1
    assert lost(found, "record") == 5
    (target,) = (dict(labels) for name, labels in values if name == "target_info")
    assert (target["service_name"], target["k8s_pod_name"]) == ("postwarden-sidecar", "mx-0")


async def test_prometheus_gets_what_the_supervisor_knows(page: Page) -> None:
    state = SidecarState(
        Limits(screening=500, upstream=0), True, False, True, {"bl.test": False, "{key}.dq": True}
    )
    told = series(found := telemetry(page, None, state=lambda: state))
    await found.close()
    limits = {
        dict(labels)["postwarden_limit"]: value
        for (name, labels), value in told.items()
        if name == "postwarden_connections_limit"
    }
    assert limits == {"connections_per_client": 50, "screening": 500, "upstream": 0}
    assert told["postwarden_policy_in_force", frozenset()] == 1
    assert told["postwarden_operator_connected", frozenset()] == 0
    assert told["postwarden_handoff_proved", frozenset()] == 1
    assert told["postwarden_dnsbl_zone_usable", frozenset({("postwarden_dnsbl_zone", "bl.test")})] == 0
    assert told["postwarden_dnsbl_zone_usable", frozenset({("postwarden_dnsbl_zone", "{key}.dq")})] == 1


async def test_a_sidecar_without_rules_or_operator_has_no_limits_and_no_stream(page: Page) -> None:
    told = series(found := telemetry(page, None))
    await found.close()
    names = {name for name, _ in told}
    assert not names & {"postwarden_connections_limit", "postwarden_operator_connected"}
    assert told["postwarden_policy_in_force", frozenset()] == 0
    assert told["postwarden_handoff_proved", frozenset()] == 0


async def test_look_ups_are_told_by_zone_and_outcome(page: Page) -> None:
    page.lookups.name_zones(["bl.example", "{key}.wl.example"])
    place = page.lookups.zones()["{key}.wl.example"]
    for duration in (0.0005, 3.0):
        page.lookups.count(2, place, Outcome.TIMEOUT, duration)
    page.lookups.count(0, 0, Outcome.LISTED, 0.1)
    found = telemetry(page, None)
    values = series(found)
    await found.close()
    name = "postwarden_dnsbl_lookup_duration_seconds"
    counts = {
        (labels["postwarden_dnsbl_zone"], labels["postwarden_dnsbl_outcome"]): value
        for labels, value in (
            (dict(labels), value) for (each, labels), value in values.items() if each == f"{name}_count"
        )
    }
    assert counts == {
        ("bl.example", "listed"): 0,
        ("bl.example", "not_listed"): 0,
        ("{key}.wl.example", "listed"): 0,
        ("{key}.wl.example", "not_listed"): 0,
        ("{key}.wl.example", "timeout"): 2,
        ("_OTHER", "listed"): 1,
    }
    timeouts = {("postwarden_dnsbl_zone", "{key}.wl.example"), ("postwarden_dnsbl_outcome", "timeout")}
    assert values[f"{name}_sum", frozenset(timeouts)] == 3.0005
    assert values[f"{name}_bucket", frozenset(timeouts | {("le", "0.001")})] == 1


async def test_a_log_stream_that_blocks_holds_up_nobody_and_losses_are_counted(page: Page) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:  # nobody reads: writing blocks once the pipe is full
        found = telemetry(page, stream)
        begin = time.monotonic()
        for _ in range(100):
            found.observe([record()] * 100)
        assert time.monotonic() - begin < 0.5
        begin = time.monotonic()
        await found.close(0.2)
        assert time.monotonic() - begin < 0.5
        assert lost(found, "record") >= 10_000 - QUEUE_LIMIT - 100
        drain = threading.Thread(target=_read_to_the_end, args=(reader,))
        drain.start()
        for thread in threading.enumerate():
            if thread.name == "postwarden-telemetry":
                thread.join(10)
                assert not thread.is_alive()
    drain.join(10)


def _read_to_the_end(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as stream:
        stream.read()


async def test_a_log_stream_that_fails_is_told_once_and_its_lines_counted(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.BytesIO()
    found = telemetry(page, stream)
    stream.close()
    found.observe([record()])
    found.observe([record()])
    await found.close()
    assert lost(found, "line") == 2
    assert len(caplog.records) == 1
    assert "log lines can't be written" in caplog.text


async def test_a_record_that_cannot_be_shown_is_told_and_the_next_is_shown(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.BytesIO()
    found = telemetry(page, stream)
    found.observe([record(started=float("nan")), record()])
    await found.close()
    assert stream.getvalue().count(b"\n") == 1
    assert lost(found, "record") == 1
    assert "a record can't be shown" in caplog.text


async def test_a_malformed_endpoint_is_told_and_the_lines_are_written(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.BytesIO()
    found = telemetry(page, stream, otlp_endpoint="collector:4317")
    found.observe([record()])
    await found.close()
    assert "no OTLP: OTLP endpoint 'collector:4317' is no URL; write it as http://HOST:PORT" in caplog.text
    assert stream.getvalue().count(b"\n") == 1


async def test_after_close_records_are_lost_and_closing_again_is_nothing(page: Page) -> None:
    found = telemetry(page, io.BytesIO())
    await found.close()
    await found.close()
    found.observe([record(), record()])
    assert lost(found, "record") == 2


async def test_the_sdks_switch_turns_otlp_off(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    stream = io.BytesIO()
    found = telemetry(page, stream, otlp_endpoint="http://127.0.0.1:9", environ={"OTEL_SDK_DISABLED": "true"})
    found.observe([record()])
    await found.close()
    assert b"trace_id" not in stream.getvalue()
    assert ("postwarden_telemetry_dropped_total", frozenset({("postwarden_signal", "span")})) not in series(
        found
    )
    assert caplog.records == []
