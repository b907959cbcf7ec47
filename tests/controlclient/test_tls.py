"""TLS to the operator: only a server that the CA vouches for is spoken to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from controlclient.authority import Authority
from controlclient.control_server import ControlServer
from controlclient.test_client import Sink, running
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_sidecar.controlclient.target import ControlTarget
from postwarden_sidecar.controlclient.trust import Trust, expiry


@contextlib.asynccontextmanager
async def serving(server: ControlServer, authority: Authority) -> AsyncIterator[str]:
    listening = grpc.aio.server()
    pb_grpc.add_ScreeningControlServicer_to_server(server, listening)
    port = listening.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([authority.leaf()]))
    await listening.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await listening.stop(0)


async def test_a_server_of_the_ca_is_spoken_to_and_another_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, foreign = Authority("ours"), Authority("foreign")
    server = ControlServer(tmp_path / "unused")
    async with serving(server, ours) as address:
        async with running(ControlTarget(address=address, token="t", ca_pem=ours.pem), Sink()):
            await server.stream()
        server.tokens.clear()
        async with running(ControlTarget(address=address, token="t", ca_pem=foreign.pem), Sink()):
            await until(lambda: "no stream to the operator" in caplog.text)
    assert server.tokens == []  # it never saw the token


async def test_a_trust_bundle_that_came_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    server = ControlServer(tmp_path / "unused")
    async with serving(server, new) as address:
        target = ControlTarget(address=address, token="t", ca_pem=old.pem)
        async with running(target, Sink()) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.streams.get(), 0.3)
            client.trust.add(new.pem)
            await server.stream()


async def test_hello_and_the_answer_to_a_bundle_tell_until_when_the_operator_can_be_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Authority("old", hours=1), Authority("new", hours=9)
    server, sink = ControlServer(tmp_path / "unused"), Sink()
    async with serving(server, old) as address:
        target = ControlTarget(address=address, token="t", ca_pem=old.pem)
        async with running(target, sink):
            stream = await server.stream()
            assert stream.hello.trust_expires.seconds == expiry(old.pem)
            stream.send.put_nowait(pb.ControlMessage(trust_bundle=pb.TrustBundle(pem=b"nonsense")))
            assert (await stream.next("trust")).trust_expires.seconds == expiry(old.pem)
            assert "is of no use, what was trusted stays" in caplog.text
            both = old.pem + new.pem
            stream.send.put_nowait(pb.ControlMessage(trust_bundle=pb.TrustBundle(pem=both)))
            assert (await stream.next("trust")).trust_expires.seconds == expiry(new.pem)
            assert sink.pem == both


async def test_a_ca_file_that_changes_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    server, file = ControlServer(tmp_path / "unused"), tmp_path / "ca.crt"
    async with serving(server, new) as address:
        target = ControlTarget(address=address, token="t", ca_pem=old.pem, ca_file=file)
        file.write_bytes(b"half a cert")
        async with running(target, Sink()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.streams.get(), 0.3)
            file.write_bytes(new.pem)
            await server.stream()


def test_a_kept_bundle_that_is_damaged_harms_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    ours = Authority("ours")
    target = ControlTarget(address="operator:443", token="t", ca_pem=ours.pem)
    assert Trust(target, b"-----BEGIN CERTIFICATE-----\nMII").pem == ours.pem + b"\n"
    assert "the trust bundle that was kept is of no use" in caplog.text
