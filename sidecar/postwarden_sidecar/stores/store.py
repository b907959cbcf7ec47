"""What a pass store is. Every implementation passes the same conformance suite (`tests/stores`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class PassStore(Protocol):
    """Passes by key (a client's address or prefix): test -> epoch seconds when the pass ends.

    Only passes are stored. A store that fails loses a client its wait, never its mail: callers treat every
    error as 'not known'. An expiry later than now + the test's TTL is a broken clock's and counts as expired;
    the caller, who knows the TTL, judges that.
    """

    async def get(self, key: str, now: float) -> dict[str, float]:
        """Passes of key that have not expired at now (epoch seconds); empty if there are none. Raises
        StoreError."""

    async def put(self, key: str, expiries: Mapping[str, float], now: float) -> None:
        """Merge: of two expiries of one test the later stays. Raises StoreError."""

    async def sweep(self, now: float) -> int:
        """Remove what expired longer ago than the retention; how many keys went. Raises StoreError."""

    async def close(self) -> None:
        """Write out and release. No other call follows."""


class StoreError(Exception):
    """The store could not be read or written; the message says which and why, in one sentence."""
