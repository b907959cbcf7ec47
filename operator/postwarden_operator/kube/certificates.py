"""X.509 as the operator makes it: a CA, and a server certificate signed by one.

Contract: time and lifetime are arguments; only keys are random. Each CA has a name of its own and a key identifier: of two
CAs with the same name gRPC's TLS tries one and gives up (measured), and a bundle holds two while they change.
EC P-256 throughout: a key takes a tenth of a millisecond.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SKEW = 300.0
"""Seconds that a certificate is good before it was made, if it lives long: clocks differ."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM. begins, expires: seconds since the epoch."""

    certificate: bytes
    key: bytes = field(repr=False)
    begins: float
    expires: float


def read_pair(certificate: bytes, key: bytes) -> Pair:
    """Raises ValueError, whose text never holds the key, where one is unreadable or the two do not belong together."""
    parsed = x509.load_pem_x509_certificate(certificate)
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise ValueError("its key can't be read") from None
    if private.public_key() != parsed.public_key():
        raise ValueError("certificate and key do not belong together")
    return Pair(
        certificate, key, parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()
    )


def make_authority(now: float, lifetime: float) -> Pair:
    """A CA that signs for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    made = _time(now).strftime("%Y-%m-%d")
    # The serial number tells apart two CAs of one day.
    name = _name(f"postwarden {made} {serial % 2**32:08x}")
    return _signed(
        _builder(name, name, key.public_key(), key, serial, now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256()),
        key,
    )


def make_server_certificate(authority: Pair, names: Sequence[str], now: float, lifetime: float) -> Pair:
    """For these DNS names or addresses; it ends no later than the CA."""
    ca = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey), "a CA that we made"
    key = ec.generate_private_key(ec.SECP256R1())
    expires = min(now + lifetime, authority.expires)
    return _signed(
        _builder(
            ca.subject,
            _name("postwarden-operator"),
            key.public_key(),
            ca_key,
            x509.random_serial_number(),
            now,
            expires,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([alternative_name(name) for name in names]), critical=False
        )
        .sign(ca_key, hashes.SHA256()),
        key,
    )


def alternative_name(name: str) -> x509.GeneralName:
    """A DNS name or an address, as a certificate has it. Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _signed(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        private,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: float,
    expires: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_time(now - min(SKEW, (expires - now) / 10)))
        .not_valid_after(_time(expires))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
