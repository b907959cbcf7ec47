"""OTLP endpoints that refuse, fail, speak something else or are not there: one warning, losses counted, lines written, a quick end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import grpc
import pytest
from controlclient.authority import Authority
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # it has no stubs
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.rules.settings import SampleRate
from postwarden_sidecar.telemetry.pipeline import Telemetry
from prometheus_client.parser import text_string_to_metric_families
from telemetry.collector import Collector, grpc_collector, http_collector
from telemetry.samples import passed, record

RECORDS, SPANS_EACH = 100, 3
Endpoint = contextlib.AbstractContextManager[str]


def telemetry(page: Page, url: str, **settings: object) -> Telemetry:
    known = {"log_stream": io.BytesIO(), "metrics_interval": 0.05, "environ": {}, **settings}
    return Telemetry(page=page, log_format="JSON", hostname="mx", pid=1, otlp_endpoint=url, **known)  # type: ignore[arg-type]  # of tests


def dropped(found: Telemetry) -> dict[str, float]:
    return {
        sample.labels["postwarden_signal"]: sample.value
        for family in text_string_to_metric_families(found.prometheus().decode())
        for sample in family.samples
        if sample.name == "postwarden_telemetry_dropped_total"
    }


def refuses(code: grpc.StatusCode, retry_in: float | None = None) -> Callable[[], Endpoint]:
    """retry_in: seconds."""

    def answer(context: grpc.ServicerContext) -> None:
        if retry_in is not None:
            delay = Duration()
            delay.FromNanoseconds(round(retry_in * 1e9))
            info = RetryInfo(retry_delay=delay).SerializeToString()
            context.set_trailing_metadata((("google.rpc.retryinfo-bin", info),))
        context.abort(code, "no\nway")

    @contextlib.contextmanager
    def endpoint() -> Iterator[str]:
        with grpc_collector(answer) as collector:
            yield collector.url

    return endpoint


def says(status: int) -> Callable[[], Endpoint]:
    @contextlib.contextmanager
    def endpoint() -> Iterator[str]:
        with http_collector(lambda: status) as collector:
            yield collector.url

    return endpoint


def is_(url: str) -> Callable[[], Endpoint]:
    return lambda: contextlib.nullcontext(url)


@contextlib.contextmanager
def tls_to_plain() -> Iterator[str]:
    with grpc_collector() as collector:
        yield collector.url.replace("http://", "https://")


@contextlib.contextmanager
def tls_of_an_unknown_authority() -> Iterator[str]:
    key, certificate = Authority("nobody knows it").leaf()
    with grpc_collector(credentials=grpc.ssl_server_credentials([(key, certificate)])) as collector:
        yield collector.url


@contextlib.contextmanager
def no_such_protocol() -> Iterator[str]:
    """HTTP where gRPC is spoken."""
    with grpc_collector() as collector:
        yield f"{collector.url}/otlp"


ENDPOINTS = {
    "unauthenticated": refuses(grpc.StatusCode.UNAUTHENTICATED),
    "invalid argument": refuses(grpc.StatusCode.INVALID_ARGUMENT),
    "unimplemented": refuses(grpc.StatusCode.UNIMPLEMENTED),
    "unavailable": refuses(grpc.StatusCode.UNAVAILABLE),
    "exhausted, come back soon": refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, 0.1),
    "exhausted, come back late": refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, 3600),
    "HTTP 401": says(HTTPStatus.UNAUTHORIZED),
    "HTTP 413": says(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "HTTP 429": says(HTTPStatus.TOO_MANY_REQUESTS),
    "HTTP 500": says(HTTPStatus.INTERNAL_SERVER_ERROR),
    "HTTP redirect": says(HTTPStatus.FOUND),
    "no such name": is_("http://collector.invalid:4317"),
    "no such name, HTTP": is_("http://collector.invalid:4318"),
    "TLS to plain": tls_to_plain,
    "TLS of an unknown authority": tls_of_an_unknown_authority,
    "HTTP to gRPC": no_such_protocol,
    "port 0": is_("http://127.0.0.1:0"),
    "port 0, HTTP": is_("http://127.0.0.1:0/x"),
    "no host name": is_("http://%00%0a:4317"),
    "no host name, HTTP": is_("http://%00%0a:4318"),
}


@pytest.mark.parametrize("kind", ENDPOINTS)
async def test_an_endpoint_of_no_use_is_one_warning_and_its_losses_are_counted(
    kind: str, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.BytesIO()
    with ENDPOINTS[kind]() as url:
        found = telemetry(page, url, log_stream=stream)
        found.set_sampling((SampleRate("pass_new", 100, 10_000),))
        found.observe([passed()] * RECORDS)
        begin = time.monotonic()
        await found.close(2.0)
        assert time.monotonic() - begin < 5.0
    assert stream.getvalue().count(b"\n") == RECORDS
    lost = {"record": 0, "line": 0, "span": RECORDS * SPANS_EACH, "log": RECORDS}
    await _until(lambda: dropped(found) == lost)  # on busy cores an exporter's thread ends after us
    (warning,) = [entry for entry in caplog.records if entry.name.startswith("postwarden")]
    assert warning.levelno == logging.WARNING
    assert url in warning.getMessage()
    assert "\n" not in warning.getMessage()


@pytest.mark.parametrize("start", [grpc_collector, http_collector])
async def test_a_slow_collector_gets_all(
    start: Callable[..., contextlib.AbstractContextManager[Collector]],
    page: Page,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def slowly(*_: object) -> int:
        time.sleep(0.2)
        return HTTPStatus.OK

    with start(slowly) as collector:
        found = telemetry(page, collector.url)
        found.observe([passed(), record(verdict=Verdict.HANGUP)] * 20)
        await found.close(10.0)
        assert len({span.trace_id for span in collector.spans()}) == 40
        assert len(collector.log_records()) == 40
        assert collector.latest_metrics()
    assert set(dropped(found).values()) == {0}
    assert [entry for entry in caplog.records if entry.name.startswith("postwarden")] == []


async def test_an_endpoint_that_comes_later_gets_what_comes_later(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refusing = [True]

    def answer() -> int:
        return HTTPStatus.FORBIDDEN if refusing else HTTPStatus.OK

    with http_collector(answer) as collector:
        found = telemetry(page, collector.url)
        await _until(lambda: any("does not take metrics" in entry.getMessage() for entry in caplog.records))
        refusing.clear()
        await _until(lambda: collector.metrics)
        found.observe([passed()])
        await found.close(5.0)
        assert len(collector.spans()) == SPANS_EACH
    said = [entry.getMessage() for entry in caplog.records if entry.name == "postwarden.telemetry"]
    assert [line.split()[3:5] for line in said] == [["does", "not"], ["works", "again;"]]


async def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_memory_does_not_grow_with_what_a_black_hole_does_not_take(page: Page) -> None:
    """Three times as many records as the first, which filled all queues, take no more memory than what the allocator keeps."""

    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = telemetry(
            page, f"http://127.0.0.1:{silent.getsockname()[1]}", metrics_interval=3600, log_stream=None
        )
        found.set_sampling((SampleRate("rejected", 100, 10_000),))
        sizes = []
        for _ in range(4):
            for _ in range(20):
                found.observe([record(helo="x" * 200) for _ in range(100)])
                await _until(lambda: found._waiting < 1000)  # not this queue, but those behind it
            sizes.append(resident())
        lost = dropped(found)
        await found.close(0.5)
    assert lost["span"] > 8000
    assert lost["log"] > 2000
    # MiB: 6,000 spans and logs that were kept would take some 60; collections of garbage come when they like.
    assert sizes[-1] - sizes[0] < 15, sizes
