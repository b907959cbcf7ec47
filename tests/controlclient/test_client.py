"""The client against a real gRPC server on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controlclient.authority import Authority
from controlclient.control_server import ControlServer, control_server
from controlclient.snapshots import add_blob, add_rule, snapshot
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient import reports
from postwarden_sidecar.controlclient.backoff import Backoff
from postwarden_sidecar.controlclient.client import UPSTREAM_EXPOSED, ControlClient
from postwarden_sidecar.controlclient.stream import NotApplied
from postwarden_sidecar.controlclient.target import ControlTarget
from postwarden_sidecar.handoff.proof import PROVED, UNPROVED
from postwarden_sidecar.rules import image
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import PolicyRef, Rules


class Sink:
    """Rules are in force as soon as `gate` is open."""

    def __init__(self) -> None:
        self.rules: Rules | None = None
        self.begun: list[str] = []
        self.held: list[str] = []
        self.pem = b""
        self.refuse = ""
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def complete(self) -> bool:
        return True

    @property
    def in_force(self) -> PolicyRef | None:
        return None if self.rules is None else self.rules.policy

    @property
    def tables(self) -> dict[str, Buffer]:
        if self.rules is None:
            return {}
        shards = [shard for table in image.tables(self.rules) for shard in (*table.v4, *table.v6)]
        return {hashlib.sha256(shard).hexdigest(): shard for shard in shards}

    async def apply(self, rules: Rules) -> None:
        self.begun.append(rules.policy.version)
        await self.gate.wait()
        if self.refuse:
            raise NotApplied(self.refuse)
        self.rules = rules

    async def unmanaged(self) -> None:
        self.rules = None

    async def hold(self, reason: str) -> None:
        self.held.append(reason)

    def trust(self, pem: bytes) -> None:
        self.pem = pem


def at_once(low: float, high: float) -> float:
    """Jitter for tests: reconnect without a wait, and the middle of anything else."""
    return 0.0 if low == 0.0 else (low + high) / 2


@contextlib.asynccontextmanager
async def running(target: ControlTarget, sink: Sink, **how: float) -> AsyncIterator[ControlClient]:
    client = ControlClient(target, sink, uniform=at_once, **how)  # type: ignore[arg-type]  # stream_life only
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ControlServer]:
    async with control_server(tmp_path) as serving:
        yield serving


@pytest.fixture
def sink() -> Sink:
    return Sink()


async def test_the_first_stream_says_hello_with_the_token_and_nothing_in_force(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
    assert server.tokens == ["Bearer one-off"]
    assert list(stream.hello.formats) == ["rules/1", "iv4/1", "iv6/1"]
    assert (stream.hello.revision, stream.hello.version, stream.hello.complete) == ("", "", True)
    assert stream.hello.sidecar_version


async def test_a_snapshot_is_acknowledged_only_once_it_is_applied(server: ControlServer, sink: Sink) -> None:
    sink.gate.clear()
    async with running(server.target, sink):
        stream = await server.stream()
        stream.snapshot(snapshot("v1", "n1"))
        await until(lambda: sink.begun)
        assert stream.received.empty()
        sink.gate.set()
        assert await stream.next("ack") == pb.Ack(nonce="n1", version="v1")
    assert sink.in_force is not None
    assert sink.in_force.version == "v1"


async def test_what_can_not_be_decoded_is_refused_and_the_previous_rules_stay(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
        stream.snapshot(snapshot("v1", "n1"))
        await stream.next("ack")
        bad = snapshot("v2", "n2")
        bad.required_features.append("teapot")
        stream.snapshot(bad)
        nack = await stream.next("nack")
    assert (nack.nonce, nack.version) == ("n2", "v1")
    assert nack.reason == "the rules need features that this sidecar lacks: teapot"
    assert sink.begun == ["v1"]


async def test_rules_that_no_worker_can_use_are_refused(server: ControlServer, sink: Sink) -> None:
    sink.refuse = "worker 0 can't use the rules: no room"
    async with running(server.target, sink):
        stream = await server.stream()
        stream.snapshot(snapshot("v1", "n1"))
        assert await stream.next("nack") == pb.Nack(nonce="n1", reason=sink.refuse)


async def test_the_latest_snapshot_wins_and_the_older_one_is_never_answered(
    server: ControlServer, sink: Sink
) -> None:
    sink.gate.clear()
    async with running(server.target, sink):
        stream = await server.stream()
        for number in range(1, 6):
            stream.snapshot(snapshot(f"v{number}", f"n{number}"))
        await until(lambda: "v5" in sink.begun)
        sink.gate.set()
        assert await stream.next("ack") == pb.Ack(nonce="n5", version="v5")
        assert stream.received.empty()


async def test_tables_are_fetched_and_only_what_changed_is_fetched_again(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
        first = snapshot("v1", "n1")
        server.blobs = add_rule(first, [("192.0.2.0/24", 2, 1)], inline=False)
        stream.snapshot(first)
        await stream.next("ack")
        second = snapshot("v2", "n2")
        server.blobs = add_rule(second, [("192.0.2.0/24", 2, 1)], inline=False)
        added = add_rule(
            second, [(f"10.{a}.{b}.0/24", 1, 1) for a in range(60) for b in range(256)], inline=False
        )
        server.blobs |= added
        stream.snapshot(second)
        await stream.next("ack")
    assert [*server.fetched] == [*dict.fromkeys(server.fetched)]
    assert server.fetched[-1] in added
    assert sink.rules is not None
    assert sink.rules.access.rules[1].table.lookup(b"\x0a\x3b\xff\x01") == (1, 1)


async def test_a_table_that_can_not_be_fetched_is_refused(server: ControlServer, sink: Sink) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
        message = snapshot("v1", "n1")
        (digest,) = add_rule(message, [("192.0.2.0/24", 2, 1)], inline=False)
        stream.snapshot(message)
        nack = await stream.next("nack")
        assert nack.reason == f"blob {digest[:12]} can't be fetched: PERMISSION_DENIED: no such blob"
        server.blobs = {digest: b"x" * 1_000_000}
        message.nonce = "n2"
        stream.snapshot(message)
        nack = await stream.next("nack")
        assert nack.reason == f"blob {digest[:12]} has more than its 13 bytes"


async def test_unmanaged_is_acknowledged_and_hold_and_trust_are_passed_on(
    server: ControlServer, sink: Sink
) -> None:
    pem = Authority("new").pem
    async with running(server.target, sink):
        stream = await server.stream()
        stream.snapshot(snapshot("v1", "n1"))
        await stream.next("ack")
        stream.send.put_nowait(pb.ControlMessage(hold=pb.Hold(reason="a list is missing")))
        stream.send.put_nowait(pb.ControlMessage(trust_bundle=pb.TrustBundle(pem=pem)))
        stream.send.put_nowait(pb.ControlMessage(unmanaged=pb.Unmanaged(nonce="n2")))
        assert await stream.next("ack") == pb.Ack(nonce="n2", version="")
    assert (sink.held, sink.pem, sink.in_force) == (["a list is missing"], pem, None)


async def test_a_lost_stream_is_made_anew_and_says_what_is_in_force(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
        stream.snapshot(snapshot("v1", "n1"))
        await stream.next("ack")
        stream.send.put_nowait(None)
        again = await server.stream()
    assert (again.hello.revision, again.hello.version) == ("rev-v1", "v1")


async def test_an_operator_that_is_away_is_one_warning_however_often_it_is_tried(
    server: ControlServer, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    server.unavailable = True
    async with running(server.target, sink) as client:
        await until(lambda: len(server.tokens) >= 5)
        server.unavailable = False
        await server.stream()
        await until(lambda: client.connected)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["no stream to the operator, what is in force stays: UNAVAILABLE: not yet"]


async def test_a_stream_whose_time_is_over_ends_after_its_successor_has_begun(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink, stream_life=0.2):
        first = await server.stream()
        second = await server.stream()
        await first.ended.wait()
        second.snapshot(snapshot("v1", "n1"))
        assert (await second.next("ack")).version == "v1"


async def test_the_proof_is_reported_at_once_and_on_every_stream(server: ControlServer, sink: Sink) -> None:
    async with running(server.target, sink) as client:
        stream = await server.stream()
        await until(lambda: client.connected)
        await client.report(UNPROVED, "down")
        await client.report(UNPROVED, "down")
        await client.report(PROVED, "")
        assert (await stream.next("handoff")).state == pb.HANDOFF_STATE_UNPROVED
        assert (await stream.next("handoff")).state == pb.HANDOFF_STATE_PROVED
        await client.report(UPSTREAM_EXPOSED, "port 25")
        stream.send.put_nowait(None)
        again = await server.stream()
        report = await again.next("handoff")
        assert (report.state, report.detail) == (pb.HANDOFF_STATE_UPSTREAM_EXPOSED, "port 25")


async def test_zones_are_reported_on_change_on_every_stream_and_after_each_snapshot(
    server: ControlServer, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAUSE", 0.05)
    monkeypatch.setattr(reports, "JITTER", 0.01)
    async with running(server.target, sink) as client:
        stream = await server.stream()
        client.reports.tell_zone("{key}.bl.example", "Blocked", "it answers 127.255.255.254")
        report = await stream.next("dnsbl")
        assert (report.zone, report.state) == ("{key}.bl.example", pb.DNSBL_STATE_BLOCKED)
        assert report.detail == "it answers 127.255.255.254"
        stream.snapshot(snapshot())
        assert (await stream.next("ack")).nonce
        assert await stream.next("dnsbl") == report
        stream.send.put_nowait(None)
        again = await server.stream()
        assert await again.next("dnsbl") == report


async def test_a_lost_address_is_reported_on_change_and_on_every_stream(
    server: ControlServer, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAUSE", 0.05)
    monkeypatch.setattr(reports, "JITTER", 0.01)
    async with running(server.target, sink) as client:
        stream = await server.stream()
        client.reports.tell_address("10.0.0.1", "99 % come from 10.0.0.1")
        client.reports.keep_only(set())
        report = await stream.next("lost_address")
        assert (report.address, report.detail) == ("10.0.0.1", "99 % come from 10.0.0.1")
        stream.send.put_nowait(None)
        again = await server.stream()
        assert await again.next("lost_address") == report
        client.reports.tell_address("", "")
        assert (await again.next("lost_address")).address == ""


async def test_a_refused_steering_is_reported_on_change_and_on_every_stream(
    server: ControlServer, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAUSE", 0.05)
    monkeypatch.setattr(reports, "JITTER", 0.01)
    async with running(server.target, sink) as client:
        stream = await server.stream()
        client.reports.tell_steering("")  # never was one: nothing is said
        client.reports.tell_steering("one serves all")
        client.reports.keep_only(set())
        assert (await stream.next("steering")).problem == "one serves all"
        stream.send.put_nowait(None)
        again = await server.stream()
        assert (await again.next("steering")).problem == "one serves all"
        client.reports.tell_steering("")
        assert (await again.next("steering")).problem == ""


async def test_the_token_is_read_anew_for_each_stream(
    server: ControlServer, sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with running(ControlTarget(address=f"unix:{server.path}", token_file=file), sink):
        stream = await server.stream()
        file.write_text("second\n")
        stream.send.put_nowait(None)
        stream = await server.stream()
        file.unlink()
        stream.send.put_nowait(None)
        await until(lambda: "can't be read" in caplog.text)
        file.write_text("third\n")
        await server.stream()
    assert server.tokens == ["Bearer first", "Bearer second", "Bearer third"]


async def test_an_unknown_blob_format_is_refused_before_anything_is_fetched(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink):
        stream = await server.stream()
        message = snapshot("v1", "n1")
        digest = add_blob(message, b"abc", "iv4/9", inline=False)
        server.blobs = {digest: b"abc"}
        stream.snapshot(message)
        assert "unknown format 'iv4/9'" in (await stream.next("nack")).reason
    assert server.fetched == []


@pytest.mark.parametrize(
    "how",
    [
        {"address": "unix:/x"},
        {"address": "unix:/x", "token": "a", "token_file": Path("/b")},
        {"address": "operator:443", "token": "a"},
    ],
)
def test_a_target_that_can_not_work_is_refused(how: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ControlTarget(**how)  # type: ignore[arg-type]  # that is the test


def test_waits_double_from_1_to_60_seconds_with_full_jitter() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high / 2

    backoff = Backoff(uniform)
    waits = [backoff.next_wait() for _ in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert {low for low, _ in asked} == {0.0}
    backoff.reset()
    assert backoff.next_wait() == 0.5


async def test_an_address_where_no_one_listens_is_said_with_its_reason(
    tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(ControlTarget(address=f"unix:{tmp_path}/none", token="t"), sink):
        await until(lambda: caplog.records)
    assert f"{tmp_path}/none" in caplog.text
    assert "No such file or directory" in caplog.text


async def test_reports_and_answers_at_the_same_time_reach_the_operator_and_leave_the_stream_whole(
    server: ControlServer, sink: Sink
) -> None:
    async with running(server.target, sink) as client:
        stream = await server.stream()
        await until(lambda: client.connected)
        for burst in range(20):
            stream.snapshot(snapshot(f"v{burst}", f"n{burst}"))
            reports = [client.report(UNPROVED, f"{burst}.{number}") for number in range(10)]
            await asyncio.gather(*reports)
            details = {(await stream.next("handoff")).detail for _ in range(10)}
            assert details == {f"{burst}.{number}" for number in range(10)}
        stream.snapshot(snapshot("last", "last"))
        while (await stream.next("ack")).nonce != "last":
            pass
        assert server.streams.empty()
        assert not stream.ended.is_set()
