"""What sidecars are to trust: the operator's CA, and the next one before it signs. Pure.

Contract: a TrustBundle is what the operator publishes now, in three places: in new pods (inline), to the API server for the
webhook (`ca_bundle`), and on each stream. SidecarTrust is one stream's side of that: what this sidecar trusts by its own account, what
it is to be sent, and whether it would miss the change of the CA. A sidecar that knows the newest certificate is sent nothing.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from postwarden.screening.v1 import screening_pb2 as pb


class BundleUnusable(ValueError):
    """No certificates in PEM."""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """pem: all certificates. expires: when the last of them ends, seconds since the epoch."""

    pem: bytes
    expires: float

    @property
    def ca_bundle(self) -> str:
        """As `clientConfig.caBundle` of a webhook configuration has it."""
        return base64.b64encode(self.pem).decode()


def bundle_of(pem: bytes) -> TrustBundle:
    """Raises BundleUnusable."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BundleUnusable("no certificates in PEM") from error
    return TrustBundle(pem, max(each.not_valid_after_utc.timestamp() for each in certificates))


class SidecarTrust:
    """told: until when the sidecar has said that it can trust the operator; None: it does not say (a unix socket, an older release)."""

    def __init__(self, told: float | None) -> None:
        self._told = told
        self._wanted: TrustBundle | None = None
        self._sent: TrustBundle | None = None

    def want(self, bundle: TrustBundle) -> None:
        """From now on this is published."""
        self._wanted = bundle

    def next_message(self) -> pb.ControlMessage | None:
        """What is to be sent now, and thereby counted as sent. None: nothing."""
        wanted = self._wanted
        if (
            wanted is None
            or wanted == self._sent
            or (self._told is not None and self._told >= wanted.expires)
        ):
            return None
        self._sent = wanted
        return pb.ControlMessage(trust_bundle=pb.TrustBundle(pem=wanted.pem))

    def receive_report(self, expires: float) -> None:
        """What it trusts after it got a bundle."""
        self._told = expires

    @property
    def stale(self) -> str:
        """Why it would miss the change of the CA, one sentence; empty: it would not, as far as it says."""
        if self._told is None or self._wanted is None or self._told >= self._wanted.expires:
            return ""
        return f"it does not know the operator's newest CA, and trusts none after {_date(self._told)}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
