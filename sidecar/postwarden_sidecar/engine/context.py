"""What a connection is decided by: captured when it begins and kept to its end, so that new rules never touch an open connection."""

from __future__ import annotations

from dataclasses import dataclass

from postwarden_sidecar.rules.intervals import EMPTY, AddressTable
from postwarden_sidecar.rules.settings import Rules

PROXY_TIMEOUT = (
    5.0  # seconds to wait for a PROXY header while no policy says how long: the policy's own default
)


@dataclass(frozen=True, slots=True)
class Context:
    """rules: None: no policy; then defer says whether clients are turned away with 421 or handed over unscreened.

    banner: the first two words of the upstream's greeting (`mx.example.org ESMTP`), "" while not learned. ehlo: the keywords that the
    upstream offers after EHLO, with their parameters, None while not learned. suspect: the address of clients whose own is lost, "" if
    there is none: it gets no limit and no pass. bootstrap_proxies: load balancers whose PROXY header is believed while there is no policy.
    """

    rules: Rules | None
    defer: bool
    banner: str
    ehlo: tuple[str, ...] | None
    suspect: str = ""
    bootstrap_proxies: AddressTable = EMPTY

    def proxy_timeout(self, packed: bytes) -> float | None:
        """Seconds to wait for the PROXY header that this peer must send; None: it is no load balancer of ours, but a client."""
        trusted = self.bootstrap_proxies if self.rules is None else self.rules.proxy_trusted
        if trusted.lookup(packed) is None:
            return None
        return PROXY_TIMEOUT if self.rules is None else self.rules.proxy_timeout
