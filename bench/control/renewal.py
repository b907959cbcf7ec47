"""The operator's certificate, which a test may have renewed while sidecars connect.

Contract: the folder holds ca.crt, tls.crt and tls.key as cert-manager or a person would put them there; `renew` puts another certificate
of the same CA in their place, the key first: for a moment the two do not belong together, and the operator must stay with the last pair.
"""

import time
from pathlib import Path

from postwarden_operator.kube.certificates import make_authority, make_server_certificate

DAY = 86400.0
LIFETIME = 365 * DAY
"""Seconds: the operator makes anew what ends soon."""


class Renewable:
    """names: DNS names or addresses of the operator."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder, self._names = folder, names
        self._authority = make_authority(time.time(), LIFETIME)
        (folder / "ca.crt").write_bytes(self._authority.certificate)
        self.renew()

    def renew(self) -> None:
        """Another key, another certificate."""
        made = make_server_certificate(self._authority, self._names, time.time(), LIFETIME)
        for name, content in (("tls.key", made.key), ("tls.crt", made.certificate)):
            new = self._folder / f"{name}.new"
            new.write_bytes(content)
            new.replace(self._folder / name)
