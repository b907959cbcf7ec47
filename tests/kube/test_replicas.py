"""Which replicas there are, and what one that is alone does."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from controlplane.sidecar_model import wish
from eventually import until
from kube.api_stand_in import Request, api_stand_in
from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.controlplane.peers_client import PeerAddress, PeerCredentials
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.subscription import Subscription
from postwarden_operator.kube.replicas import Peers, Replicas, ReplicaSettings, look_up
from postwarden_operator.reconcile.plan import Plan


def peers(tmp_path: Path, *addresses: tuple[str, int]) -> Peers:
    return Peers(addresses, PeerCredentials(tmp_path / "token", bytes))


async def test_name_stands_for_every_address_that_it_has_and_for_what_certificates_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::2", port, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    found = await look_up(peers(tmp_path, ("operators.mail.svc", 8443)))
    assert found == {
        PeerAddress("10.0.0.1:8443", "operators.mail.svc"),
        PeerAddress("[fd00::2]:8443", "operators.mail.svc"),
    }
    assert asked == ["operators.mail.svc"]


async def test_address_stands_for_itself(tmp_path: Path) -> None:
    found = await look_up(peers(tmp_path, ("127.0.0.1", 1), ("127.0.0.1", 2)))
    assert found == {PeerAddress("127.0.0.1:1"), PeerAddress("127.0.0.1:2")}


async def test_name_that_nobody_knows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match=r"^nobody\.invalid: Name or service not known$"):
        await look_up(peers(tmp_path, ("nobody.invalid", 8443)))


async def test_only_replica_leads_without_asking_anybody_and_sees_its_own_sidecars() -> None:
    async with api_stand_in(lambda request: (500, {})) as stand_in:
        replicas = Replicas(stand_in.api, None, lambda: registry, lambda uid: None)
        registry = Registry(replicas.sink)
        assert replicas.leading
        assert replicas.servicer is None
        registry.set_wanted({"pod-1": wish("a")})
        has = Subscription(revision="a", version="a/1", complete=True)
        stream = registry.subscribe(Identity("pod-1", "mail", "mta-0"), has)
        found = replicas.state("pod-1")
        assert found is not None
        assert (found.policy_uid, found.revision) == ("uid", "a")
        registry.unsubscribe(stream)
        assert replicas.state("pod-1") is not None  # it may be on its way to another stream
        await until(lambda: replicas.state("pod-1") is None, 5.0)
        assert stand_in.requests == []


async def test_replica_does_not_ask_for_the_lease_before_it_knows_what_to_write() -> None:
    def leases(request: Request) -> tuple[int, dict[str, Any]]:
        if request.method == "GET":
            return 404, {}
        return 201, {**request.body, "metadata": {"resourceVersion": "1"}}

    async with api_stand_in(leases) as stand_in:
        replicas = Replicas(
            stand_in.api, ReplicaSettings("mail", "operator"), lambda: registry, lambda uid: None
        )
        registry = Registry(replicas.sink)
        running = [asyncio.create_task(part) for part in replicas.parts()]
        for _ in range(10):
            await asyncio.sleep(0)
        assert stand_in.requests == []
        replicas.publish(Plan((), {}))
        await until(lambda: replicas.leading)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
