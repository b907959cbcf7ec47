"""A CA and a server certificate of its own in a folder, for a first try without a cluster's Secret or cert-manager.

Contract: makes ca.crt, tls.crt and tls.key (mode 0600) where they are missing or no longer good for the
names; the CA's key is thrown away, so that nobody signs with it. Rotation is not its job: delete the files
and start anew, or use the CA in a Secret (`authority`).
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from postwarden_operator.kube.certificates import alternative_name, make_authority, make_server_certificate

DAY = 86400.0

LIFETIME = 365 * DAY
"""Seconds, of both certificates."""

RENEWAL = 30 * DAY
"""A start that finds fewer seconds than this left makes new ones."""


def ensure_certificate(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """The certificate for these DNS names or addresses, and its key.

    Raises OSError, ValueError (files that are not ours).
    """
    certificate, key = folder / "tls.crt", folder / "tls.key"
    folder.mkdir(parents=True, exist_ok=True)
    present = certificate.exists() and key.exists() and (folder / "ca.crt").exists()
    if not present or not _good(certificate, names):
        _make(folder, certificate, key, names)
    return certificate, key


def _good(path: Path, names: Sequence[str]) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc.timestamp() - time.time()
    return left > RENEWAL and list(found) == [alternative_name(name) for name in names]


def _make(folder: Path, certificate: Path, key: Path, names: Sequence[str]) -> None:
    now = time.time()
    authority = make_authority(now, LIFETIME)
    leaf = make_server_certificate(authority, names, now, LIFETIME)
    (folder / "ca.crt").write_bytes(authority.certificate)
    certificate.write_bytes(leaf.certificate)
    key.unlink(missing_ok=True)
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(leaf.key)
