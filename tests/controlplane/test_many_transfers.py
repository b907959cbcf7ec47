"""A large list changes for many sidecars at once: 32 are served at a time, the others wait, and all get it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from controlplane.test_server import Sidecar, serving
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane import server
from postwarden_operator.controlplane.limits import TRANSFERS, CallLimits
from postwarden_operator.controlplane.wanted import managed

SIDECARS = 200
LIST = bytes(range(256)) * 4096
"""1 MiB."""

PATIENCE = 60.0
"""Seconds for all of them; two are usual."""


class Counted(CallLimits):
    """Knows how many transfers were under way at most."""

    now, most = 0, 0

    @asynccontextmanager
    async def transfer(self, pod_uid: str) -> AsyncIterator[None]:
        async with super().transfer(pod_uid):
            Counted.now += 1
            Counted.most = max(Counted.most, Counted.now)
            try:
                yield
            finally:
                Counted.now -= 1


async def fetched(address: str, pod: str, asked: asyncio.Semaphore, go: asyncio.Event) -> str:
    """The hash of what this sidecar got, by a connection of its own. It asks, says so, and reads when it may."""
    # What is not read yet stays with the server, but for one chunk.
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65536),
    )
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        sidecar = Sidecar(channel, pod)
        await sidecar.subscribe()
        (blob,) = (await sidecar.receive()).snapshot.blobs
        assert blob.data == b""
        call = sidecar.stub.FetchBlob(
            pb.BlobRequest(hash=blob.hash), metadata=sidecar.metadata, timeout=PATIENCE
        )
        asked.release()
        await go.wait()
        digest = hashlib.sha256()
        async for chunk in call:
            digest.update(chunk.data)
        return digest.hexdigest()


async def test_all_get_their_list_and_no_more_than_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CallLimits", Counted)
    monkeypatch.setattr(Counted, "most", 0)
    digest = hashlib.sha256(LIST).hexdigest()
    snapshot = pb.Snapshot(policy_uid="policy", name="wall", revision="r", version="v", format="rules/1")
    wanted = managed(snapshot, [(digest, "iv4/1", LIST)])
    pods = [f"pod-{number}" for number in range(SIDECARS)]
    async with serving(tmp_path) as served, asyncio.timeout(PATIENCE):
        served.registry.set_wanted(dict.fromkeys(pods, wanted))
        address = f"unix:{tmp_path / 'control.sock'}"
        asked, go = asyncio.Semaphore(0), asyncio.Event()
        sidecars = [asyncio.create_task(fetched(address, pod, asked, go)) for pod in pods]
        for _ in pods:
            await asked.acquire()
        await until(lambda: Counted.now == TRANSFERS)
        go.set()
        found = await asyncio.gather(*sidecars)
    assert found == [digest] * SIDECARS
    assert Counted.most == TRANSFERS
    assert Counted.now == 0
