"""TLS to the operator: only a server that the CA vouches for is spoken to."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from controlclient.control_server import ControlServer
from controlclient.test_client import Sink, running
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eventually import until
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_sidecar.controlclient.target import ControlTarget


class Authority:
    """A CA of a test's own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(True, None))
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(self) -> tuple[bytes, bytes]:
        """Key and certificate for 127.0.0.1, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._sign(x509.Name([]), key.public_key(), names)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, certificate.public_bytes(serialization.Encoding.PEM)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )


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
            client.extra_trust = new.pem
            await server.stream()
