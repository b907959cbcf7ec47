"""Peers.Watch between real replicas: a gRPC server with TLS, its registry, and a client that merges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from controlplane.sidecar_model import wish
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_operator.controlplane.identity import AuthenticationFailed, Identity, Refusal
from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.controlplane.peers_client import PeerAddress, PeerCredentials, PeerWatches
from postwarden_operator.controlplane.peers_local import LocalStates
from postwarden_operator.controlplane.peers_server import BATCH, PeersServicer
from postwarden_operator.controlplane.peers_view import View
from postwarden_operator.controlplane.registry import Registry, Stream
from postwarden_operator.controlplane.server import ScreeningServer
from postwarden_operator.controlplane.subscription import State, Subscription
from postwarden_operator.controlplane.tls import CertificateFiles
from postwarden_operator.kube.self_signed import ensure_certificate

OWN_TOKEN = "the-operators"
LOST_GRACE = 30.0


class OneToken:
    """Of replicas: a token that names a refusal is refused with it. No sidecar comes."""

    async def authenticate_peer(self, token: str) -> None:
        if token != OWN_TOKEN:
            raise AuthenticationFailed(Refusal[token], "refused")

    async def authenticate(self, token: str) -> Identity:
        raise AuthenticationFailed(Refusal.UNAUTHENTICATED, "refused")


class Replica:
    """One with its registry; streams are made without gRPC."""

    def __init__(self, name: str, clock: float = 0.0) -> None:
        self.name = name
        self.clock = clock
        self.local = LocalStates(lambda: self.registry, lambda uid, state: None, lambda: self.clock)
        self.registry = Registry(self.local)
        self.registry.set_wanted({f"pod-{number}": wish("a") for number in range(3 * BATCH)})
        self.streams: dict[str, Stream] = {}

    def connect(self, *pods: str, revision: str = "a") -> None:
        for pod in pods:
            self.clock += 1
            has = Subscription(revision=revision, version=f"{revision}/1", complete=True)
            self.streams[pod] = self.registry.subscribe(Identity(pod, "mail", pod), has)

    def disconnect(self, pod: str) -> None:
        self.registry.unsubscribe(self.streams.pop(pod))

    @asynccontextmanager
    async def serving(self, folder: Path, port: int = 0) -> AsyncIterator[int]:
        server = ScreeningServer(self.registry, OneToken())
        server.serve_peers(PeersServicer(self.name, self.local, OneToken()))
        certificate = CertificateFiles(*ensure_certificate(folder, ["replicas.test"]))
        port = server.listen_tls(f"127.0.0.1:{port}", certificate)
        await server.start()
        try:
            yield port
        finally:
            self.local.close()
            await server.stop()


@dataclass
class Follower:
    """The replica that leads: it follows the others. changes: of its view."""

    folder: Path
    name: str = "leader"
    changes: int = 0
    view: View = field(default_factory=lambda: View(LOST_GRACE))

    def __post_init__(self) -> None:
        (self.folder / "token").write_text(OWN_TOKEN)
        credentials = PeerCredentials(self.folder / "token", (self.folder / "ca.crt").read_bytes)
        self.watches = PeerWatches(self.name, self.view, credentials, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def follow(self, *ports: int) -> None:
        self.watches.set_addresses(PeerAddress(f"127.0.0.1:{port}", "replicas.test") for port in ports)

    def word(self, pod: str) -> PeerState | None:
        return self.view.word(pod, asyncio.get_running_loop().time())

    def state(self, pod: str) -> State | None:
        word = self.word(pod)
        return None if word is None else word.sync.state


@asynccontextmanager
async def following(folder: Path, name: str = "leader") -> AsyncIterator[Follower]:
    ensure_certificate(folder, ["replicas.test"])
    follower = Follower(folder, name)
    try:
        yield follower
    finally:
        await follower.watches.stop()


async def test_whole_view_comes_first_and_then_what_changes(tmp_path: Path) -> None:
    replica = Replica("r1")
    pods = [f"pod-{number}" for number in range(2 * BATCH + 1)]  # more than fit into a message
    replica.connect(*pods)
    async with following(tmp_path) as leader, replica.serving(tmp_path) as port:
        leader.follow(port)
        await until(lambda: all(leader.state(pod) is State.SYNCED for pod in pods))
        replica.registry.set_wanted({pod: wish("b" if pod == "pod-7" else "a") for pod in pods})
        await until(lambda: leader.state("pod-7") is State.PENDING)
        word = leader.word("pod-7")
        assert word is not None
        assert (word.policy_uid, word.revision) == ("uid", "b")
        assert leader.state("pod-8") is State.SYNCED
        replica.disconnect("pod-8")
        await until(lambda: leader.word("pod-8") is None)


async def test_replica_without_sidecars_has_an_empty_view_and_tells_of_the_first(tmp_path: Path) -> None:
    replica = Replica("r1")
    async with following(tmp_path) as leader, replica.serving(tmp_path) as port:
        leader.follow(port)
        await until(lambda: leader.changes)
        replica.connect("pod-1")
        await until(lambda: leader.state("pod-1") is State.SYNCED)


async def test_sidecar_that_moves_to_another_replica_counts_there(tmp_path: Path) -> None:
    one, other = Replica("r1"), Replica("r2", clock=100.0)
    one.connect("pod-1")
    async with (
        following(tmp_path) as leader,
        one.serving(tmp_path) as port1,
        other.serving(tmp_path) as port2,
    ):
        leader.follow(port1, port2)
        await until(lambda: leader.state("pod-1") is State.SYNCED)
        other.connect("pod-1", revision="older")
        await until(lambda: leader.state("pod-1") is State.PENDING)
        one.disconnect("pod-1")
        changes = leader.changes
        await until(lambda: leader.changes > changes)
        assert leader.state("pod-1") is State.PENDING


async def test_replica_that_shuts_down_says_nothing_of_its_sidecars_and_is_found_again(
    tmp_path: Path,
) -> None:
    replica = Replica("r1")
    replica.connect("pod-1", "pod-2")
    async with following(tmp_path) as leader:
        async with replica.serving(tmp_path) as port:
            leader.follow(port)
            await until(lambda: leader.state("pod-1") is State.SYNCED)
        changes = leader.changes
        await until(lambda: leader.changes > changes)
        assert leader.state("pod-1") is State.SYNCED  # for the grace
        successor = Replica("r1-again", clock=1000.0)
        successor.connect("pod-1", revision="older")
        async with successor.serving(tmp_path, port):
            await until(lambda: leader.state("pod-1") is State.PENDING)
            assert leader.state("pod-2") is State.SYNCED


async def test_replica_does_not_follow_itself(tmp_path: Path) -> None:
    replica = Replica("r1")
    replica.connect("pod-1")
    async with following(tmp_path, "r1") as itself, replica.serving(tmp_path) as port:
        await asyncio.wait_for(itself.watches.follow(PeerAddress(f"127.0.0.1:{port}", "replicas.test")), 20)
        assert itself.word("pod-1") is None


async def test_replica_that_is_no_longer_looked_up_is_not_followed(tmp_path: Path) -> None:
    replica = Replica("r1")
    replica.connect("pod-1")
    async with following(tmp_path) as leader, replica.serving(tmp_path) as port:
        leader.follow(port)
        await until(lambda: leader.state("pod-1") is State.SYNCED)
        leader.follow()
        changes = leader.changes
        await until(lambda: leader.changes > changes)
        _, expiry = leader.view.take_changes(asyncio.get_running_loop().time())
        assert expiry is not None
        assert leader.view.word("pod-1", expiry) is None


@pytest.mark.parametrize("refusal", ["PERMISSION_DENIED", "UNAVAILABLE"])
async def test_who_is_no_replica_sees_nothing(tmp_path: Path, refusal: str) -> None:
    replica = Replica("r1")
    async with following(tmp_path), replica.serving(tmp_path) as port:
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca.crt").read_bytes())
        options = (("grpc.ssl_target_name_override", "replicas.test"),)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            stub = pb_grpc.PeersStub(channel)
            for metadata, code in (
                ((("authorization", f"Bearer {refusal}"),), refusal),
                ((), "PERMISSION_DENIED"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Watch(pb.WatchRequest(), metadata=metadata).read()
                assert refused.value.code() is grpc.StatusCode[code]


async def test_replica_with_another_authority_is_not_believed(tmp_path: Path) -> None:
    replica = Replica("impostor")
    replica.connect("pod-1")
    (tmp_path / "own").mkdir()
    async with following(tmp_path / "own") as leader, replica.serving(tmp_path / "other") as port:
        leader.follow(port)
        await until(lambda: leader.changes)
        assert leader.word("pod-1") is None
