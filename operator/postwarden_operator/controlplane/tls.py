"""The server's certificate: from files, read anew when they change, or from memory, where the operator is its own CA.

Contract: every new connection gets the certificate of that moment; open streams live on (measured). Files that can't be
used leave the last good ones in use and are logged: a half-written file must not lock the sidecars out. cert-manager, a Secret
volume and `--self-signed-dir` all end in such files. Where the CA's file is known, a certificate by a CA that was not in it for NOTICE
waits, as long as the last one is good: sidecars must have heard of a CA before they meet it.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from postwarden_operator.controlplane.trust import TrustBundle, bundle_of

_log = logging.getLogger(__name__)


class CertificateUnusable(Exception):
    """The text names the file and what is wrong with it."""


class Certificate(Protocol):
    """What the server shows."""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that show, at each handshake, the certificate of that moment."""

    def newest(self) -> tuple[bytes, bytes]:
        """Key and certificate, PEM, that there are now. Raises OSError: they can't be read."""


class CertificateInMemory:
    """Set anew by whoever makes it; not before the first `set` can connections be made."""

    def __init__(self) -> None:
        self._pair: tuple[bytes, bytes] | None = None

    def set(self, certificate: bytes, key: bytes) -> None:
        """PEM."""
        self._pair = key, certificate

    def server_credentials(self) -> grpc.ServerCredentials:
        """See Certificate."""
        return _credentials(self.newest)

    def newest(self) -> tuple[bytes, bytes]:
        """See Certificate."""
        assert self._pair is not None, "the certificate is set before the server listens"
        return self._pair


def _credentials(current: Callable[[], tuple[bytes, bytes]]) -> grpc.ServerCredentials:
    """current: key and certificate to show now; gRPC asks before each handshake, in threads of its own.

    To say the same again is not harmless: gRPC then puts a new TLS context in the place of the one that another
    handshake is about to use, and the process dies (measured with grpcio 1.85: some 100 connections at a time).
    """
    one, given = threading.Lock(), current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        with one:
            pair = current()
            if pair == given:
                return None
            given = pair
            return grpc.ssl_server_certificate_configuration([pair])

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([given]),
        changed,  # type: ignore[arg-type]  # None is allowed (grpc's documentation); the stubs do not know
        require_client_authentication=False,
    )


NOTICE = 7 * 86400.0
"""Seconds that a CA is published before it is used (design)."""

RESERVE = 86400.0
"""Seconds before its end in which a certificate gives way, even to one that sidecars may not trust."""


class CertificateFiles:
    """PEM files: the chain, leaf first, and its key; and the CAs that sidecars are to trust, if the operator is to tell them.
    clock: seconds since the epoch. Raises CertificateUnusable."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        authorities: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._certificate, self._key, self._authorities = certificate, key, authorities
        self._clock = clock
        self._published: dict[x509.Certificate, float] = {}
        """Since when; those of the start may have been published for ever."""
        self._bundle: TrustBundle | None = None
        if authorities is not None:
            self.trust_bundle()
            if self._bundle is None:
                raise CertificateUnusable(f"{authorities} holds no certificates in PEM")
            self._published = dict.fromkeys(self._published, 0.0)
        self._seen = self._state()
        self._pair = self._read()
        self._waiting = False

    def trust_bundle(self) -> TrustBundle | None:
        """What the CAs' file holds now, and what it held before, as far as it is still good. None: no file was named."""
        if self._authorities is not None:
            try:
                found = x509.load_pem_x509_certificates(self._authorities.read_bytes())
            except (OSError, ValueError) as error:
                _log.error(
                    "the CAs' file %s can't be used, the last one counts: %s", self._authorities, error
                )
                return self._bundle
            now = self._clock()
            known = {each: self._published.get(each, now) for each in found} | self._published
            self._published = {
                each: since for each, since in known.items() if each in found or _expires(each) > now
            }
            pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self._published)
            if self._bundle is None or pem != self._bundle.pem:
                self._bundle = bundle_of(pem)
        return self._bundle

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
        """See Certificate."""
        return _credentials(self.pair)

    def pair(self) -> tuple[bytes, bytes]:
        """Key and certificate to show now."""
        try:
            state = self._state()
            if state != self._seen:
                pair = self._read()
                waits = self._too_early(pair[1])
                if waits and not self._waiting:
                    _log.warning(
                        "the new certificate in %s waits: its CA is not known to sidecars for %.0f days yet",
                        self._certificate,
                        NOTICE / 86400,
                    )
                self._waiting = waits
                if not waits:
                    self._seen, self._pair = state, pair
                    _log.info("serving the new certificate in %s", self._certificate)
        except CertificateUnusable as error:
            _log.error("the certificate in use stays: %s", error)
        return self._pair

    def newest(self) -> tuple[bytes, bytes]:
        """Key and certificate as the files have them, whatever sidecars know of their CA. Raises OSError."""
        return self._key.read_bytes(), self._certificate.read_bytes()

    def _too_early(self, pem: bytes) -> bool:
        """Whether sidecars may not have heard yet of the CA of this chain, and the last certificate is good still."""
        now = self._clock()
        chain = x509.load_pem_x509_certificates(pem)
        last = x509.load_pem_x509_certificate(self._pair[1])
        if self._authorities is None or now > _expires(last) - RESERVE:
            return False
        heard_of = [each for each, since in self._published.items() if since <= now - NOTICE]
        return not any(_issued(chain[-1], by=each) for each in heard_of)


def _expires(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _issued(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    if certificate == by:
        return True
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
