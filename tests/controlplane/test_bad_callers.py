"""Callers that break the rules, and the change of the CA: each gets its status, and no other stream notices."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from controlplane.sidecar_model import wish
from controlplane.test_server import TIMEOUT, Served, Sidecar, serving, with_blob
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane import server
from postwarden_operator.controlplane.limits import TRANSFERS_OF_A_POD
from postwarden_operator.controlplane.subscription import State
from postwarden_operator.controlplane.trust import TrustBundle
from postwarden_operator.controlplane.wanted import Held, managed


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def test_transfer_that_is_never_read_is_cut_off_and_makes_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TRANSFER_TIMEOUT", 0.2)
    served.registry.set_wanted({"pod-1": with_blob(b"x" * 40_000_000)})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    await sidecar.receive()
    never_read = [
        sidecar.stub.FetchBlob(pb.BlobRequest(hash="hash"), metadata=sidecar.metadata)
        for _ in range(TRANSFERS_OF_A_POD)
    ]
    for call in never_read:
        await asyncio.wait_for(call.initial_metadata(), TIMEOUT)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await sidecar.fetch("hash")  # it waits for its turn, in vain
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    monkeypatch.setattr(server, "TRANSFER_TIMEOUT", 20.0)
    assert sum(map(len, await sidecar.fetch("hash"))) == 40_000_000


GARBAGE = b"\x0a\xff\xff\xff\xff\x0f"
"""A field that is longer than the message."""


@pytest.mark.parametrize("after_hello", [False, True])
async def test_malformed_message_ends_the_stream_with_a_clear_status_and_harms_no_other(
    served: Served, after_hello: bool
) -> None:
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    other = served.sidecar("pod-2")
    await other.subscribe()
    await other.receive()
    raw: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = served.channel.stream_stream(
        "/postwarden.screening.v1.ScreeningControl/Subscribe"
    )
    call = raw(metadata=(("authorization", "Bearer pod-1"),))
    if after_hello:
        hello = pb.SidecarMessage(hello=pb.Hello(complete=True))
        await call.write(hello.SerializeToString())
        await call.read()
    await call.write(GARBAGE)
    assert await asyncio.wait_for(call.code(), TIMEOUT) is grpc.StatusCode.INVALID_ARGUMENT
    assert await call.details() == "what was sent is no message of this service"
    served.registry.set_wanted({"pod-1": wish("b"), "pod-2": wish("b")})
    assert (await other.receive()).snapshot.revision == "b"


async def test_malformed_request_for_a_blob_is_refused(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    raw: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = served.channel.unary_stream(
        "/postwarden.screening.v1.ScreeningControl/FetchBlob"
    )
    call = raw(GARBAGE, metadata=(("authorization", "Bearer pod-1"),))
    assert await asyncio.wait_for(call.code(), TIMEOUT) is grpc.StatusCode.INVALID_ARGUMENT
    assert "DecodeError" not in caplog.text


async def test_stream_without_a_hello_is_ended_in_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELLO_TIMEOUT", 0.05)
    served.registry.set_wanted({})
    assert await served.sidecar().refused() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_stream_ends_when_its_time_is_over(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STREAM_LIFE", 0.05)
    served.registry.set_wanted({"pod-1": wish("a")})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    assert await sidecar.end() is grpc.StatusCode.UNAVAILABLE
    await served.changes.until(lambda: served.state() is None)


async def test_stream_that_is_never_read_is_cut_off_once_it_is_to_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WRITE_GRACE", 0.05)
    # More than HTTP/2's windows take in: the write waits for a reader.
    served.registry.set_wanted({"pod-1": managed(pb.Snapshot(traceparent="x" * 1_500_000), [])})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    await served.changes.until(lambda: served.state() is State.PENDING)
    served.registry.set_wanted({})
    await served.changes.until(lambda: served.state() is None)
    assert await sidecar.end() is grpc.StatusCode.PERMISSION_DENIED  # once it reads


async def test_pod_that_opens_streams_without_end_is_refused_and_harms_no_other(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    honest = served.sidecar("pod-2")
    await honest.subscribe()
    await honest.receive()
    ends = [asyncio.create_task(end_of_stream(served.sidecar())) for _ in range(50)]
    done: set[asyncio.Task[grpc.StatusCode]] = set()
    async with asyncio.timeout(TIMEOUT):
        while len(done) < 49:  # all but the newest that was let in
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.01)
    for end in set(ends) - done:
        end.cancel()
    codes = Counter(end.result() for end in done)
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: 40, grpc.StatusCode.ABORTED: 9}
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("b")})
    assert (await honest.receive()).snapshot.revision == "b"


async def end_of_stream(sidecar: Sidecar) -> grpc.StatusCode:
    """Hello only once it is let in: gRPC makes INTERNAL of a write that meets a refusal."""
    sidecar.call = sidecar.stub.Subscribe(metadata=sidecar.metadata)
    if server.ADMITTED in dict(await sidecar.call.initial_metadata()):
        await sidecar.send(pb.SidecarMessage(hello=pb.Hello(complete=True)))
    return await sidecar.end()


async def test_flood_of_messages_is_read_slowly_and_a_log_line_of_it_is_short_and_one(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MESSAGES", (20.0, 0.001))
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    sidecar, honest = served.sidecar(), served.sidecar("pod-2")
    await honest.subscribe()
    await honest.receive()
    await sidecar.subscribe()
    nonce = (await sidecar.receive()).snapshot.nonce
    forged = "no\n2026-01-01 INFO all is well" + "x" * 100_000
    message = pb.SidecarMessage(nack=pb.Nack(nonce=nonce, reason=forged))
    flood = asyncio.create_task(send_for_ever(sidecar, message))

    def refusals() -> list[str]:
        return [each.getMessage() for each in caplog.records if "refuses its rules" in each.getMessage()]

    await served.changes.until(lambda: len(refusals()) == 20)
    state = served.registry.state("pod-1")
    assert state is not None
    assert "\n" not in state.reason
    assert len(state.reason) <= 1024
    for revision in "bcd":
        served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish(revision)})
        assert (await honest.receive()).snapshot.revision == revision
    assert len(refusals()) == 20
    assert all(len(line) < 1200 and "\n" not in line for line in refusals())
    flood.cancel()


async def send_for_ever(sidecar: Sidecar, message: pb.SidecarMessage) -> None:
    while True:
        await sidecar.send(message)


def told(seconds: int) -> pb.Hello:
    hello = pb.Hello(sidecar_version="test", complete=True)
    hello.trust_expires.FromSeconds(seconds)
    return hello


async def test_sidecar_that_would_miss_the_change_of_the_ca_is_told_and_not_synced_until_it_has_it(
    served: Served,
) -> None:
    served.registry.set_wanted({"pod-1": Held("nothing to do"), "pod-2": Held("nothing to do")})
    served.registry.set_trust(TrustBundle(b"old", 1000.0))
    knows, late = served.sidecar("pod-1"), served.sidecar("pod-2")
    await knows.subscribe(told(1000))
    await late.subscribe(told(999))
    assert (await knows.receive()).WhichOneof("message") == "hold"  # nothing of the bundle
    assert (await late.receive()).trust_bundle.pem == b"old"
    served.registry.set_trust(TrustBundle(b"old+new", 2000.0))
    assert (await knows.receive()).trust_bundle.pem == b"old+new"
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    snapshot = (await knows.receive()).snapshot
    await knows.send(pb.SidecarMessage(ack=pb.Ack(nonce=snapshot.nonce, version=snapshot.version)))

    def reason() -> str:
        state = served.registry.state("pod-1")
        return "" if state is None else state.reason

    await served.changes.until(lambda: reason().startswith("it does not know the operator's newest CA"))
    assert "none after 1970-01-01T00:16:40Z" in reason()
    assert served.state() is State.PENDING
    await knows.send(pb.SidecarMessage(trust=pb.TrustReport(trust_expires=told(2000).trust_expires)))
    await served.changes.until(lambda: served.state() is State.SYNCED)
