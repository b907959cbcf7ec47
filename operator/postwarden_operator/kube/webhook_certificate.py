"""The TLS context of the webhook, which shows the newest certificate at each handshake.

Contract: `context` is for a server's whole life. A certificate that can't be used leaves the last good one in use, and is logged once.
Certificates in files count as soon as they are there: the control plane waits until sidecars have heard of a new CA, but whoever writes the
files (cert-manager) has told the API server at the same moment.
"""

import logging
import os
import ssl
from collections.abc import Callable

_log = logging.getLogger(__name__)

Newest = Callable[[], tuple[bytes, bytes]]
"""Key and certificate chain, PEM. Raises ValueError or OSError: they can't be had now."""


class WebhookCertificate:
    """newest: asked before each handshake. Raises what it raises, and ssl.SSLError, where there is none to begin with."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest
        self._pair = newest()
        self._inner = _context(self._pair)
        self._said = ""
        self.context = _context(self._pair)
        # Asked at every handshake, whether or not the client names a server. Not load_cert_chain anew: OpenSSL keeps a certificate for
        # each kind of key, and would go on to show an old RSA one beside a new one of ECDSA.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: object, _: ssl.SSLContext) -> None:
        try:
            pair = self._newest()
            if pair != self._pair:
                self._inner = _context(pair)
                self._pair = pair
                _log.info("the webhook shows a new certificate")
            self._said = ""
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if str(error) != self._said:
                self._said = str(error)
                _log.error("the webhook's certificate in use stays: %s", error)
        connection.context = self._inner


def _context(pair: tuple[bytes, bytes]) -> ssl.SSLContext:
    """OpenSSL takes a key from a file only: one in memory, which nobody else can open."""
    key, chain = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
