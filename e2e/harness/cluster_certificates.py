"""The certificates and keys of one test cluster, made anew for each.

Contract: `write_certificates(directory)` leaves there ca.crt, ca.key, apiserver.crt/.key (for 127.0.0.1,
localhost and the Service's names), admin.crt/.key (group system:masters) and service-account.key/.pub, which
sign and check ServiceAccount tokens; what it returns issues more. EC P-256 throughout: an RSA key would take longer to make than the API
server to start.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=2)
"""No test run lasts longer."""

SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def write_certificates(directory: Path, *more_addresses: str) -> "Authority":
    """Write all of them. The API server is also reached by `more_addresses`, the ClusterIP of its Service for instance."""
    authority = Authority(directory)
    addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", *more_addresses)]
    authority.issue(
        "apiserver",
        [x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")],
        [
            *(x509.DNSName(name) for name in ("localhost", *SERVICE_NAMES)),
            *(x509.IPAddress(address) for address in addresses),
        ],
    )
    authority.issue_to_user("admin", "admin", "system:masters")
    signer = ec.generate_private_key(ec.SECP256R1())
    _write_key(directory / "service-account.key", signer)
    (directory / "service-account.pub").write_bytes(
        signer.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return authority


class Authority:
    """A CA of its own, with the extensions that Python's strict verification asks for (RFC 5280, 4.2.1)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster CA")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write_key(directory / "ca.key", self._key)
        (directory / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue_to_user(self, name: str, user: str, *groups: str, addresses: Sequence[str] = ()) -> None:
        """Write NAME.crt and NAME.key of a user of the API server, who may serve at `addresses` too."""
        subject = [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
        self.issue(name, subject, [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses])

    def issue(
        self, name: str, subject: list[x509.NameAttribute[str]], alternatives: Sequence[x509.GeneralName]
    ) -> None:
        """Write NAME.crt and NAME.key, for a server that is reached by `alternatives`, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(x509.Name(subject), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write_key(self._directory / f"{name}.key", key)
        (self._directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
