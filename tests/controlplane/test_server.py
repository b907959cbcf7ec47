"""The real gRPC server, over a unix socket, with a real client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from controlplane.sidecar_model import wish
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_operator.controlplane.identity import AuthenticationFailed, Identity, Refusal
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.server import ListenFailed, ScreeningServer
from postwarden_operator.controlplane.subscription import State, ZoneReport
from postwarden_operator.controlplane.wanted import Managed, Unmanaged, managed

TIMEOUT = 10.0
"""Seconds for anything to happen; milliseconds are usual."""


class TokenIsPodUid:
    """A token `pod-N` is the pod of that uid; a token that names a refusal is refused with it."""

    async def authenticate(self, token: str) -> Identity:
        if token in Refusal.__members__:
            raise AuthenticationFailed(Refusal[token], "refused")
        return Identity(token, "mail", f"name-of-{token}")


@dataclass
class Changes:
    """A StatusSink on which a test can wait."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def state_changed(self, pod_uid: str) -> None:
        self.changed.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not predicate():
                self.changed.clear()
                await self.changed.wait()


class Sidecar:
    """A client stream that says Hello first."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self.stub = pb_grpc.ScreeningControlStub(channel)
        self.metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    async def subscribe(self, hello: pb.Hello | None = None) -> None:
        self.call = self.stub.Subscribe(metadata=self.metadata)
        await self.send(pb.SidecarMessage(hello=hello or pb.Hello(sidecar_version="test", complete=True)))

    async def send(self, message: pb.SidecarMessage) -> None:
        # The server may have ended the stream already: `end` tells how.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.call.write(message)

    async def receive(self) -> pb.ControlMessage:
        message = await asyncio.wait_for(self.call.read(), TIMEOUT)
        assert isinstance(message, pb.ControlMessage)
        return message

    async def end(self) -> grpc.StatusCode:
        """The status with which the server ends the stream."""
        while True:
            try:
                await self.receive()
            except grpc.aio.AioRpcError as failure:
                return failure.code()

    async def refused(self) -> grpc.StatusCode:
        """The status with which the server refuses the call. Without a Hello: gRPC makes INTERNAL of a write that meets the end."""
        self.call = self.stub.Subscribe(metadata=self.metadata)
        return await self.end()

    async def fetch(self, digest: str) -> list[bytes]:
        """With a deadline of its own, as a sidecar has: a status does not get past a write that waits for a reader."""
        call = self.stub.FetchBlob(pb.BlobRequest(hash=digest), metadata=self.metadata, timeout=TIMEOUT)
        return [chunk.data async for chunk in call]


@dataclass
class Served:
    registry: Registry
    changes: Changes
    channel: grpc.aio.Channel

    def sidecar(self, token: str | None = "pod-1") -> Sidecar:
        return Sidecar(self.channel, token)

    def state(self, uid: str = "pod-1") -> State | None:
        state = self.registry.state(uid)
        return None if state is None else state.state


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    changes = Changes()
    registry = Registry(changes)
    server = ScreeningServer(registry, TokenIsPodUid())
    server.listen_unix(folder / "control.sock")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder / 'control.sock'}") as channel:
            yield Served(registry, changes, channel)
    finally:
        await server.stop()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def test_every_call_is_unavailable_until_the_first_full_compile(served: Served) -> None:
    sidecar = served.sidecar()
    assert await sidecar.refused() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await sidecar.fetch("x")
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_refused_token_ends_the_call_with_its_code(served: Served, refusal: Refusal) -> None:
    served.registry.set_wanted({})
    sidecar = served.sidecar(refusal.name)
    assert (await sidecar.refused()).name == refusal.value


async def test_call_without_token_is_unauthenticated(served: Served) -> None:
    served.registry.set_wanted({})
    sidecar = served.sidecar(None)
    assert await sidecar.refused() is grpc.StatusCode.UNAUTHENTICATED


async def test_snapshot_comes_at_once_and_the_pod_is_synced_after_the_ack(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    snapshot = (await sidecar.receive()).snapshot
    assert (snapshot.namespace, snapshot.name, snapshot.version) == ("mail", "wall", "a/1")
    assert served.state() is State.PENDING
    await sidecar.send(pb.SidecarMessage(ack=pb.Ack(nonce=snapshot.nonce, version=snapshot.version)))
    await served.changes.until(lambda: served.state() is State.SYNCED)


async def test_nack_and_failed_proof_are_rejections(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    one, two = served.sidecar("pod-1"), served.sidecar("pod-2")
    await one.subscribe()
    await two.subscribe()
    nonce = (await one.receive()).snapshot.nonce
    await one.send(pb.SidecarMessage(nack=pb.Nack(nonce=nonce, reason="unknown feature")))
    report = pb.HandoffReport(state=pb.HANDOFF_STATE_OPEN_RELAY, detail="it relays")
    await two.send(pb.SidecarMessage(handoff=report))
    await served.changes.until(lambda: served.state("pod-1") is served.state("pod-2") is State.REJECTED)


async def test_reports_on_zones_are_kept_with_the_stream_and_gone_with_it(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    report = pb.DnsblReport(zone="bl.example", state=pb.DNSBL_STATE_BLOCKED, detail="127.255.255.254")
    await sidecar.send(pb.SidecarMessage(dnsbl=report))

    def zones() -> tuple[ZoneReport, ...]:
        state = served.registry.state("pod-1")
        return () if state is None else state.zones

    await served.changes.until(lambda: zones() == (ZoneReport("bl.example", "Blocked", "127.255.255.254"),))
    newer = served.sidecar()
    await newer.subscribe()
    await served.changes.until(lambda: zones() == ())


async def test_changed_wish_reaches_only_the_pods_that_it_is_for(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    one, two = served.sidecar("pod-1"), served.sidecar("pod-2")
    await one.subscribe()
    await two.subscribe()
    assert (await one.receive()).snapshot.revision == (await two.receive()).snapshot.revision == "a"
    served.registry.set_wanted({"pod-1": wish("b"), "pod-2": wish("a")})
    assert (await one.receive()).snapshot.revision == "b"
    served.registry.set_wanted({"pod-1": wish("b"), "pod-2": Unmanaged()})
    # Had the same snapshot been sent to the second again, it would come before this.
    assert (await two.receive()).WhichOneof("message") == "unmanaged"


async def test_pod_that_is_planned_later_gets_its_rules_then(served: Served) -> None:
    served.registry.set_wanted({})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    await served.changes.until(lambda: served.state() is State.PENDING)
    served.registry.set_wanted({"pod-1": wish("a")})
    assert (await sidecar.receive()).snapshot.revision == "a"


async def test_newer_stream_of_a_pod_replaces_the_older(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    older, newer = served.sidecar(), served.sidecar()
    await older.subscribe()
    await older.receive()
    await newer.subscribe()
    assert (await newer.receive()).snapshot.revision == "a"
    assert await older.end() is grpc.StatusCode.ABORTED
    served.registry.set_wanted({"pod-1": wish("b")})
    assert (await newer.receive()).snapshot.revision == "b"


async def test_stream_of_a_deleted_pod_ends_and_the_state_with_it(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    await sidecar.receive()
    served.registry.set_wanted({})
    assert await sidecar.end() is grpc.StatusCode.PERMISSION_DENIED
    await served.changes.until(lambda: served.state() is None)


async def test_sidecar_that_hangs_up_is_no_longer_counted(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a")})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    await sidecar.receive()
    sidecar.call.cancel()
    await served.changes.until(lambda: served.state() is None)


async def test_stream_that_begins_with_no_hello_is_refused(served: Served) -> None:
    served.registry.set_wanted({})
    sidecar = served.sidecar()
    sidecar.call = sidecar.stub.Subscribe(metadata=sidecar.metadata)
    await sidecar.send(pb.SidecarMessage(ack=pb.Ack(nonce="n")))
    assert await sidecar.end() is grpc.StatusCode.FAILED_PRECONDITION


def with_blob(data: bytes) -> Managed:
    return managed(pb.Snapshot(policy_uid="u", version=f"v{len(data)}"), [("hash", "iv4/1", data)])


async def test_small_blobs_travel_inside_the_snapshot(served: Served) -> None:
    served.registry.set_wanted({"pod-1": with_blob(b"x" * 65536)})
    sidecar = served.sidecar()
    await sidecar.subscribe()
    (blob,) = (await sidecar.receive()).snapshot.blobs
    assert (blob.hash, blob.format, blob.size, blob.data) == ("hash", "iv4/1", 65536, b"x" * 65536)


async def test_large_blob_is_fetched_in_chunks_by_the_pod_it_was_named_to_and_no_other(
    served: Served,
) -> None:
    data = b"0123456789" * 20_000
    served.registry.set_wanted({"pod-1": with_blob(data), "pod-2": wish("a")})
    one, two = served.sidecar("pod-1"), served.sidecar("pod-2")
    await one.subscribe()
    await two.subscribe()
    await two.receive()
    (blob,) = (await one.receive()).snapshot.blobs
    assert (blob.size, blob.data) == (200_000, b"")
    chunks = await one.fetch("hash")
    assert [len(chunk) for chunk in chunks] == [65536, 65536, 65536, 3392]
    assert b"".join(chunks) == data
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await two.fetch("hash")
    assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_message_above_the_receive_limit_ends_the_stream_and_harms_no_other(served: Served) -> None:
    served.registry.set_wanted({"pod-1": wish("a"), "pod-2": wish("a")})
    large, other = served.sidecar("pod-1"), served.sidecar("pod-2")
    await large.subscribe()
    await large.send(pb.SidecarMessage(nack=pb.Nack(reason="x" * 300_000)))
    assert await large.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await other.subscribe()
    assert (await other.receive()).snapshot.revision == "a"


async def test_stop_ends_streams_with_unavailable(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.registry.set_wanted({"pod-1": wish("a")})
        sidecar = served.sidecar()
        await sidecar.subscribe()
        await sidecar.receive()
        served.registry.finish_all()
        assert await sidecar.end() is grpc.StatusCode.UNAVAILABLE


async def test_address_in_use_is_named(tmp_path: Path) -> None:
    server = ScreeningServer(Registry(Changes()), TokenIsPodUid())
    with pytest.raises(ListenFailed, match=r"absent/control\.sock"):
        server.listen_unix(tmp_path / "absent" / "control.sock")
    await server.stop()
