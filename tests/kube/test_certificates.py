"""The server's certificate: made in a folder, served, and read anew while streams go on."""

import shutil
from pathlib import Path

import grpc
import grpc.aio
import pytest
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.server import ScreeningServer
from postwarden_operator.controlplane.tls import CertificateFiles, CertificateUnusable
from postwarden_operator.controlplane.wanted import Held
from postwarden_operator.kube.self_signed import ensure_certificate


class AnyToken:
    async def authenticate(self, token: str) -> Identity:
        return Identity(token, "mail", token)


class NoSink:
    def state_changed(self, pod_uid: str) -> None:
        """Nobody asks."""


def test_certificate_is_made_once_and_anew_for_other_names(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path / "tls", ["localhost"])
    first = certificate.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert ensure_certificate(tmp_path / "tls", ["localhost"])[0].read_bytes() == first
    assert ensure_certificate(tmp_path / "tls", ["127.0.0.1"])[0].read_bytes() != first


async def hello(port: int, ca: bytes) -> grpc.aio.StreamStreamCall[pb.SidecarMessage, pb.ControlMessage]:
    """A stream that has got its first message, over TLS that trusts `ca` only."""
    channel = grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca))
    call = pb_grpc.ScreeningControlStub(channel).Subscribe(metadata=(("authorization", f"Bearer {port}"),))
    await call.write(pb.SidecarMessage(hello=pb.Hello(complete=True)))
    assert await held(call) == "a"
    return call


async def held(call: grpc.aio.StreamStreamCall[pb.SidecarMessage, pb.ControlMessage]) -> str:
    message = await call.read()
    assert isinstance(message, pb.ControlMessage)
    return message.hold.reason


async def test_replaced_certificate_serves_new_connections_and_open_streams_live_on(tmp_path: Path) -> None:
    old, new = tmp_path / "served", tmp_path / "new"
    files = CertificateFiles(*ensure_certificate(old, ["localhost"]))
    old_ca = (old / "ca.crt").read_bytes()
    registry = Registry(NoSink())
    server = ScreeningServer(registry, AnyToken())
    port = server.listen_tls("localhost:0", files)
    registry.set_wanted({str(port): Held("a")})
    await server.start()
    first = await hello(port, old_ca)
    ensure_certificate(new, ["localhost"])
    new_ca = (new / "ca.crt").read_bytes()
    for name in ("tls.crt", "tls.key"):
        shutil.move(new / name, old / name)
    registry.set_wanted({str(port): Held("b")})
    assert await held(first) == "b"
    registry.set_wanted({str(port): Held("a")})
    await hello(port, new_ca)
    await server.stop()


def test_certificate_and_key_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, _ = ensure_certificate(tmp_path / "one", ["localhost"])
    _, other = ensure_certificate(tmp_path / "other", ["localhost"])
    with pytest.raises(CertificateUnusable, match=r"tls\.crt and .*tls\.key"):
        CertificateFiles(one, other)
    with pytest.raises(CertificateUnusable, match="absent"):
        CertificateFiles(tmp_path / "absent", other)
