"""The server's certificate from two files, read anew when they change.

Contract: every new connection gets the certificate that is in the files at that moment; open streams live on
(measured). A pair that can't be used leaves the last good one in use and is logged: a half-written file must
not lock the sidecars out. cert-manager, a Secret volume and `--self-signed-dir` all end in such files, hence
no other source.
"""

import logging
import ssl
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)


class CertificateUnusable(Exception):
    """The text names the file and what is wrong with it."""


class CertificateFiles:
    """PEM files: the chain, leaf first, and its key. Raises CertificateUnusable."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
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

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that look at the files at each handshake."""
        first = grpc.ssl_server_certificate_configuration([self._pair])
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._current,  # type: ignore[arg-type]  # None is allowed (grpc's documentation); the stubs do not know
            require_client_authentication=False,
        )

    def _current(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks before each handshake, in a thread of its own. None: nothing has changed.

        To say the same again is not harmless: gRPC then puts a new TLS context in the place of the one that another
        handshake is about to use, and the process dies (measured with grpcio 1.85: some 100 connections at a time).
        """
        try:
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._pair = self._read()
                _log.info("serving the new certificate in %s", self._certificate)
                return grpc.ssl_server_certificate_configuration([self._pair])
        except CertificateUnusable as error:
            _log.error("the certificate in use stays: %s", error)
        return None
