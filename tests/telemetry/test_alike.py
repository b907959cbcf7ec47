"""What is made of visits by their template is what would be made of their whole records."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.trace import SpanContext, TraceFlags
from postwarden_sidecar.engine import alike
from postwarden_sidecar.engine.record import Alike, Recorded, TestResult, Verdict, Visit
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.rules.settings import EnvelopeAddresses
from postwarden_sidecar.telemetry import logs, otlp
from postwarden_sidecar.telemetry.pipeline import QUEUE_LIMIT, LineFormat
from record_strategies import groups
from telemetry.collector import http_collector, plain
from telemetry.samples import STARTED, record
from telemetry.test_otlp import exported
from telemetry.test_pipeline import telemetry

_ids = st.sampled_from([("", ""), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")])


def visits(verdict: Verdict, count: int, place: str = "spec.access.rules[0]", envelope: str = "") -> Alike:
    template = record(
        verdict=verdict,
        reason=" is rejected by ",
        **dict.fromkeys(("client_address", "server_address", "peer_address"), ""),
        **dict.fromkeys(("started", "duration", "client_port", "server_port", "peer_port"), 0),
        tests=[TestResult("access", "fail", "Drop")] if place else [],
        envelope=envelope,
    )
    return Alike(
        template,
        [Visit(STARTED + n, f"192.0.2.{n}", 4000 + n, "198.51.100.25", 25, place) for n in range(count)],
    )


@given(groups(), _ids)
def test_a_line_is_that_of_the_whole_record(group: Alike, ids: tuple[str, str]) -> None:
    rendered = logs.AlikeLines(group.template)
    for visit in group.visits:
        assert rendered.line(visit, *ids) == logs.json_line(alike.whole(group.template, visit), *ids)
    assert rendered.line(group.visits[0]) == logs.json_line(alike.whole(group.template, group.visits[0]))


@given(groups(), st.none() | st.just(SpanContext(5, 7, False, TraceFlags(1))))
def test_a_log_record_is_that_of_the_whole_record(group: Alike, trace: SpanContext | None) -> None:
    made = otlp.logs_alike(group.template, [(visit, trace) for visit in group.visits], 99)
    whole = [otlp.logs_of(record, trace, 99)[0] for record in alike.all_whole([group])]
    assert [_parsed(each) for each in made] == [_parsed(each) for each in whole]


def _parsed(encoded: bytes) -> tuple[dict[str, str | int], LogRecord]:
    """Attributes apart, for they have no order."""
    found = LogRecord.FromString(encoded)
    attributes = plain(found.attributes)
    assert len(attributes) == len(found.attributes), "no key twice"
    del found.attributes[:]
    return attributes, found


@pytest.mark.parametrize("log_format", ["JSON", "Postscreen", "pretty"])
@pytest.mark.parametrize("envelope", ["", *EnvelopeAddresses])
async def test_all_is_logged_and_shown_as_of_whole_records(
    page: Page, log_format: LineFormat, envelope: str
) -> None:
    group = visits(Verdict.REJECTED, 3, "a list of a@example.com", envelope)

    async def written(*recorded: Recorded) -> bytes:
        stream = io.BytesIO()
        found = telemetry(page, stream, log_format=log_format)
        found.observe(recorded)
        await found.close()
        return stream.getvalue()

    assert await written(group) == await written(*alike.all_whole([group]))
    hidden = envelope not in ("", EnvelopeAddresses.FULL)
    assert (b"a@example.com" not in await written(group)) is hidden or log_format == "Postscreen"


async def test_each_has_its_log_record_and_its_trace_and_drops_as_sampled(page: Page) -> None:
    groups = visits(Verdict.PASS_OLD, 20, ""), visits(Verdict.DROPPED, 300)
    with http_collector() as collector:
        lines = await exported(collector, page, *groups, record())
        spans = [span for span in collector.spans() if not span.parent_span_id]
        sent = collector.log_records()
    assert len(lines) == 321
    traced = {line["trace_id"]: line["client.address"] for line in lines if "trace_id" in line}
    assert {span.trace_id.hex(): plain(span.attributes)["client.address"] for span in spans} == traced
    verdicts = [line["postwarden.verdict"] for line in lines if "trace_id" in line]
    assert verdicts.count("pass_old") == 20
    assert verdicts.count("dropped") <= 10, "a second's worth of them"
    assert len(sent) == 21 + verdicts.count("dropped")
    assert {log.trace_id.hex() for log in sent} == traced.keys()


class _Held(io.BytesIO):
    """Takes nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, lines: Any) -> int:
        self.go.wait()
        return super().write(lines)


async def test_what_finds_no_room_is_counted_one_by_one(page: Page) -> None:
    stream = _Held()
    found = telemetry(page, stream)
    for _ in range(30):
        found.observe([visits(Verdict.DROPPED, 300)])
    lost = 9000 - QUEUE_LIMIT
    assert f'dropped_total{{postwarden_signal="record"}} {lost}'.encode() in found.prometheus()
    stream.go.set()
    await found.close()
    assert stream.getvalue().count(b"\n") == QUEUE_LIMIT
