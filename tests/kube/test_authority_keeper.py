"""The CA's Secret as several replicas read and write it at the same time, and an API server that is away."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from kube.api_stand_in import ApiStandIn, Request, api_stand_in
from postwarden_operator.controlplane.tls import CertificateInMemory
from postwarden_operator.controlplane.trust import TrustBundle
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable
from postwarden_operator.kube.authority import AuthorityUnusable, Lifetimes, renewal
from postwarden_operator.kube.authority_keeper import AuthorityKeeper, OwnAuthority
from postwarden_operator.kube.certificates import read_pair

DAY = 86400.0
NOW = 1_700_000_000.0
PATH = "/api/v1/namespaces/system/secrets"


@dataclass
class SecretStore:
    """One Secret, by the API's rules of creation and resource versions."""

    body: dict[str, Any] | None = None
    version: int = 0
    refused: list[int] = field(default_factory=list)
    """What the next writes are answered with."""

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        if request.method != "GET" and self.refused:
            return self.refused.pop(0), {"message": "refused"}
        match request.method, request.path:
            case "GET", path if path == f"{PATH}/ca":
                return (404, {}) if self.body is None else (200, self.body)
            case "POST", path if path == PATH:
                if self.body is not None:
                    return 409, {"message": "already exists"}
            case "PUT", path if path == f"{PATH}/ca":
                if self.body is None:
                    return 404, {}
                if request.body["metadata"]["resourceVersion"] != str(self.version):
                    return 409, {"message": "the object has been modified"}
            case other:
                raise AssertionError(other)
        self.version += 1
        metadata = {**request.body["metadata"], "resourceVersion": str(self.version)}
        self.body = {**request.body, "metadata": metadata}
        return 201, self.body

    def data(self) -> dict[str, bytes]:
        assert self.body is not None
        return {key: base64.b64decode(value) for key, value in self.body["data"].items()}


class Served(CertificateInMemory):
    """What a replica shows to those who connect."""

    certificate = b""

    def set(self, certificate: bytes, key: bytes) -> None:
        super().set(certificate, key)
        self.certificate = certificate

    def signed_by(self, authority: bytes) -> bool:
        leaf = x509.load_pem_x509_certificate(self.certificate)
        try:
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
        except ValueError:
            return False
        return True


class Replica:
    def __init__(self, stand_in: ApiStandIn, clock: list[float]) -> None:
        self.served = Served()
        self.bundles: list[TrustBundle] = []
        settings = OwnAuthority("system", "ca", ["operator.test", "127.0.0.1"], Lifetimes())
        self.keeper = AuthorityKeeper(
            stand_in.api, settings, self.served, self.bundles.append, lambda: clock[0]
        )


@dataclass
class Scene:
    stand_in: ApiStandIn
    store: SecretStore
    clock: list[float]

    def replica(self) -> Replica:
        return Replica(self.stand_in, self.clock)

    @property
    def writes(self) -> list[str]:
        return [request.method for request in self.stand_in.requests if request.method != "GET"]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    store = SecretStore()
    async with api_stand_in(store.answer) as stand_in:
        yield Scene(stand_in, store, [NOW])


async def test_replicas_that_start_at_the_same_time_end_with_one_ca() -> None:
    async with scene() as cluster:
        replicas = [cluster.replica() for _ in range(5)]
        await asyncio.gather(*(replica.keeper.begin() for replica in replicas))
        ca = cluster.store.data()["ca.crt"]
        assert all(replica.served.signed_by(ca) for replica in replicas)
        assert {replica.bundles[-1].pem for replica in replicas} == {ca}
        assert cluster.store.version == 1
        names = x509.load_pem_x509_certificate(replicas[0].served.certificate).extensions
        assert "operator.test" in str(names.get_extension_for_class(x509.SubjectAlternativeName).value)


async def test_rotation_is_written_once_and_every_replica_follows() -> None:
    async with scene() as cluster:
        replicas = [cluster.replica() for _ in range(3)]
        for replica in replicas:
            await replica.keeper.begin()
        old = cluster.store.data()["signer.crt"]
        start = cluster.clock[0] = renewal(read_pair(old, cluster.store.data()["signer.key"])) + 1
        await asyncio.gather(*(replica.keeper.look() for replica in replicas))
        assert cluster.store.version == 2  # one wrote, the others lost or saw it and took what it wrote
        new = cluster.store.data()["next.crt"]
        for replica in replicas:
            assert replica.bundles[-1].pem == old + new
            assert replica.served.signed_by(old)
        while cluster.store.data().get("next.crt") == new:
            cluster.clock[0] += 6 * 3600
            for replica in replicas:
                await replica.keeper.look()
        assert cluster.clock[0] - start == pytest.approx(7 * DAY, abs=DAY / 2)
        for replica in replicas:
            await replica.keeper.look()
            assert replica.served.signed_by(new)
            assert replica.bundles[-1].pem == old + new


async def test_server_certificate_is_renewed_also_while_the_api_server_is_away() -> None:
    async with scene() as cluster:
        replica = cluster.replica()
        await replica.keeper.begin()
        ca, first = cluster.store.data()["ca.crt"], replica.served.certificate
        cluster.clock[0] += 4 * DAY
        await replica.keeper.look()
        assert replica.served.certificate == first
        cluster.stand_in.answer = lambda _: (503, {})
        cluster.clock[0] += DAY
        with pytest.raises(ApiUnavailable):
            await replica.keeper.look()
        await replica.keeper.begin()  # it has what it needs
        assert replica.served.certificate != first
        assert replica.served.signed_by(ca)


async def test_secret_that_is_deleted_or_damaged_is_written_again_from_memory() -> None:
    async with scene() as cluster:
        replica = cluster.replica()
        await replica.keeper.begin()
        kept = cluster.store.data()
        cluster.store.body = None
        await replica.keeper.look()
        assert cluster.store.data() == kept
        cluster.store.body = {**(cluster.store.body or {}), "data": {"signer.crt": "bm9uc2Vuc2U="}}
        await replica.keeper.look()
        assert cluster.store.data() == kept
        assert len(replica.bundles) == 1


async def test_secret_of_somebody_else_is_not_written_over_by_an_operator_that_starts() -> None:
    async with scene() as cluster:
        cluster.store.body = {"metadata": {"resourceVersion": "0"}, "data": {"password": "bm9uc2Vuc2U="}}
        with pytest.raises(
            AuthorityUnusable, match=r"Secret system/ca holds no CA of ours: signer\.crt is missing"
        ):
            await cluster.replica().keeper.begin()
        assert cluster.writes == []


async def test_empty_secret_that_was_made_for_us_is_filled() -> None:
    async with scene() as cluster:
        cluster.store.body = {"metadata": {"name": "ca", "resourceVersion": "0", "labels": {"team": "mail"}}}
        await cluster.replica().keeper.begin()
        assert cluster.writes == ["PUT"]
        assert cluster.store.body["metadata"]["labels"] == {"team": "mail"}
        assert "signer.key" in cluster.store.data()


async def test_what_may_not_be_written_is_told_and_a_good_ca_is_used_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene() as cluster:
        await cluster.replica().keeper.begin()
        signer = read_pair(cluster.store.data()["signer.crt"], cluster.store.data()["signer.key"])
        cluster.clock[0] = renewal(signer) + 1
        cluster.store.refused = [403]
        late = cluster.replica()
        await late.keeper.begin()
        assert late.served.signed_by(signer.certificate)
        assert "the CA in Secret system/ca can't be read or written, trying again: 403" in caplog.text
        cluster.store.refused = [403]
        with pytest.raises(ApiRefused):
            await late.keeper.look()


async def test_keys_are_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with scene() as cluster:
        replica = cluster.replica()
        await replica.keeper.begin()
        key = cluster.store.data()["signer.key"].decode()
        cluster.store.body = {**(cluster.store.body or {}), "data": {"signer.key": "bm9uc2Vuc2U="}}
        await replica.keeper.look()
    secret = key.splitlines()[1]
    shown = caplog.text + repr(vars(replica.keeper)) + repr(replica.served)
    assert secret not in shown
    assert "PRIVATE KEY" not in shown
