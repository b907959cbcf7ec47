"""The server's certificate: from files, read anew when they change, or from memory, where the operator is its own CA.

Contract: every new connection gets the certificate of that moment; open streams live on (measured). Files that can't be
used leave the last good ones in use and are logged: a half-written file must not lock the sidecars out. cert-manager, a Secret
volume and `--self-signed-dir` all end in such files.
"""

import logging
import ssl
from pathlib import Path
from typing import Protocol

import grpc

from postwarden_operator.controlplane.trust import BundleUnusable, TrustBundle, bundle_of

_log = logging.getLogger(__name__)


class CertificateUnusable(Exception):
    """The text names the file and what is wrong with it."""


class Certificate(Protocol):
    """What the server shows."""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that show, at each handshake, the certificate of that moment."""


class CertificateInMemory:
    """Set anew by whoever makes it; not before the first `set` can connections be made."""

    def __init__(self) -> None:
        self._pair: tuple[bytes, bytes] | None = None

    def set(self, certificate: bytes, key: bytes) -> None:
        """PEM."""
        self._pair = key, certificate

    def server_credentials(self) -> grpc.ServerCredentials:
        """See Certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._current(), self._current, require_client_authentication=False
        )

    def _current(self) -> grpc.ServerCertificateConfiguration:
        assert self._pair is not None, "the certificate is set before the server listens"
        return grpc.ssl_server_certificate_configuration([self._pair])


class CertificateFiles:
    """PEM files: the chain, leaf first, and its key; and the CA's certificates that sidecars are to trust, if they are told by the
    operator. Raises CertificateUnusable."""

    def __init__(self, certificate: Path, key: Path, authorities: Path | None = None) -> None:
        self._certificate, self._key, self._authorities = certificate, key, authorities
        self._bundle: TrustBundle | None = None
        if self.trust_bundle() is None and authorities is not None:
            raise CertificateUnusable(f"{authorities} holds no certificates in PEM")
        self._seen = self._state()
        self._pair = self._read()

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file is written or replaced, or a Secret volume's link is swapped."""
        try:
            stats = [path.stat() for path in (self._certificate, self._key)]
        except OSError as error:
            raise CertificateUnusable(f"can't read {error.filename}: {error.strerror}") from error
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _read(self) -> tuple[bytes, bytes]:
        try:
            # OpenSSL's own judgement of whether the two belong together; gRPC would only fail at handshakes.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            return self._key.read_bytes(), self._certificate.read_bytes()
        except (OSError, ssl.SSLError) as error:
            raise CertificateUnusable(
                f"{self._certificate} and {self._key} are no certificate with its key: {error}"
            ) from error

    def trust_bundle(self) -> TrustBundle | None:
        """What the CA's file holds now, or held when it last could be read. None: there is no such file, or never was one of use."""
        if self._authorities is not None:
            try:
                pem = self._authorities.read_bytes()
                if self._bundle is None or pem != self._bundle.pem:
                    self._bundle = bundle_of(pem)
            except (OSError, BundleUnusable) as error:
                _log.error(
                    "the CA's file %s can't be used, the last one counts: %s", self._authorities, error
                )
        return self._bundle

    def server_credentials(self) -> grpc.ServerCredentials:
        """See Certificate."""
        first = grpc.ssl_server_certificate_configuration([self._pair])
        return grpc.dynamic_ssl_server_credentials(first, self._current, require_client_authentication=False)

    def _current(self) -> grpc.ServerCertificateConfiguration:
        """gRPC asks before each handshake, in a thread of its own."""
        try:
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._pair = self._read()
                _log.info("serving the new certificate in %s", self._certificate)
        except CertificateUnusable as error:
            _log.error("the certificate in use stays: %s", error)
        return grpc.ssl_server_certificate_configuration([self._pair])
