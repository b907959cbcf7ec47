"""Which certificates the sidecar trusts to sign the operator's: those of its start-up setting, and those that came on the stream.

What can't be used is refused before it is kept: gRPC takes the roots as a whole, and one bad file would shut the operator out for good.
"""

from __future__ import annotations

import logging
import ssl

from postwarden_sidecar.controlclient.target import ControlTarget

_log = logging.getLogger(__name__)


class TrustUnusable(Exception):
    """No certificates in PEM; the message says why in one sentence."""


def expiry(pem: bytes) -> float | None:
    """When the last CA's certificate ends, seconds since the epoch; None: there is no CA's, only a server's own. Raises TrustUnusable."""
    # The standard library's: the sidecar's image has no other library for certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise TrustUnusable(f"they can't be read as PEM: {error}") from error
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    return float(max(ends)) if ends else None


class Trust:
    """extra: PEM of a bundle that came earlier."""

    def __init__(self, target: ControlTarget, extra: bytes = b"") -> None:
        self._target = target
        self._extra = b""
        if extra and target.ca_pem is not None:
            try:
                self.add(extra)
            except TrustUnusable as error:
                _log.warning("the trust bundle that was kept is of no use: %s", error)

    def add(self, pem: bytes) -> None:
        """This bundle counts besides the start-up setting, in place of an earlier one. Raises TrustUnusable."""
        expiry(pem)
        self._extra = pem

    @property
    def pem(self) -> bytes | None:
        """All of it, for the next connection; None: no TLS."""
        own = self._own()
        return None if own is None else own + b"\n" + self._extra

    @property
    def expires(self) -> float | None:
        """Seconds since the epoch, after which no certificate of the operator's can be good; None: no TLS, or not known."""
        pem = self.pem
        return None if pem is None else expiry(pem)

    def _own(self) -> bytes | None:
        """The start-up setting as it is now: kubelet writes a mounted ConfigMap or Secret anew."""
        try:
            pem = self._target.read_ca()
            if pem is not None:
                expiry(pem)
        except (OSError, TrustUnusable) as error:
            _log.warning("the CA's file can't be used now, what it held at the start counts: %s", error)
            pem = self._target.ca_pem
        return pem
