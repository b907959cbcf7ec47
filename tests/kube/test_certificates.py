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
from postwarden_operator.kube.certificates import Pair, make_authority, make_server_certificate
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


DAY = 86400.0


class IssuerFiles:
    """What cert-manager writes into a Secret's volume: a leaf and its CA, both replaced at the same time."""

    def __init__(self, folder: Path) -> None:
        self.paths = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"

    def write(self, authority: Pair, now: float) -> bytes:
        """The leaf."""
        leaf = make_server_certificate(authority, ["localhost"], now, 90 * DAY)
        for path, content in zip(
            self.paths, (leaf.certificate, leaf.key, authority.certificate), strict=True
        ):
            path.write_bytes(content)
        return leaf.certificate


def test_certificate_by_a_new_ca_waits_until_sidecars_have_heard_of_the_ca(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1_700_000_000.0]
    issuer = IssuerFiles(tmp_path)
    old, new = (make_authority(clock[0], 365 * DAY) for _ in range(2))
    first = issuer.write(old, clock[0])
    files = CertificateFiles(*issuer.paths, clock=lambda: clock[0])
    assert (bundle := files.trust_bundle()) is not None
    assert bundle.pem == old.certificate
    clock[0] += DAY
    renewed = issuer.write(old, clock[0])
    assert files.pair()[1] == renewed != first  # by the same CA: at once
    clock[0] += DAY
    by_new = issuer.write(new, clock[0])
    assert files.pair()[1] == renewed
    assert (bundle := files.trust_bundle()) is not None
    assert bundle.pem == new.certificate + old.certificate
    clock[0] += 6.9 * DAY
    for _ in range(3):
        assert files.pair()[1] == renewed
    assert caplog.text.count("waits: its CA is not known") == 1
    clock[0] += 0.2 * DAY
    assert files.pair()[1] == by_new
    clock[0] = old.expires + 1
    assert (bundle := files.trust_bundle()) is not None
    assert bundle.pem == new.certificate


def test_certificate_about_to_end_gives_way_to_one_by_a_new_ca(tmp_path: Path) -> None:
    clock = [1_700_000_000.0]
    issuer = IssuerFiles(tmp_path)
    issuer.write(make_authority(clock[0], 365 * DAY), clock[0])
    files = CertificateFiles(*issuer.paths, clock=lambda: clock[0])
    clock[0] += 89.5 * DAY
    by_new = issuer.write(make_authority(clock[0], 365 * DAY), clock[0])
    assert files.pair()[1] == by_new


def test_ca_file_that_is_damaged_leaves_the_last_one(tmp_path: Path) -> None:
    issuer = IssuerFiles(tmp_path)
    issuer.write(make_authority(1_700_000_000.0, 365 * DAY), 1_700_000_000.0)
    files = CertificateFiles(*issuer.paths)
    before = files.trust_bundle()
    issuer.paths[2].write_text("half a cert")
    assert files.trust_bundle() == before
