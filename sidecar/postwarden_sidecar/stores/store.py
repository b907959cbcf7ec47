"""What a pass store is. Every implementation passes the same conformance suite (`tests/stores`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol


class PassStore(Protocol):
    """Passes by key (a client's address or prefix): test -> epoch seconds when the pass ends.

    Only passes are stored. A store that fails loses a client its wait, never its mail: callers treat every
    error as 'not known'. An expiry later than now + the test's TTL is a broken clock's and counts as expired;
    the caller, who knows the TTL, judges that.
    """

    async def get(self, key: str) -> dict[str, float]:
        """Passes of key as they were last put, expired ones too until they are swept (postscreen calls a client
        with an expired pass old); empty if there are none. Raises StoreError."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        """As `get`, of those keys that have any. Raises StoreError."""

    def keys(self) -> Collection[str] | None:
        """All keys that have passes; None: it can't say without asking somebody."""

    async def put(self, key: str, expiries: Mapping[str, float], now: float) -> None:
        """The newest word counts for each test named, also an earlier expiry (an expiry too far ahead must not
        stay for ever); other tests are kept. Raises StoreError."""

    async def sweep(self, now: float, retention: float) -> int:
        """Remove keys whose passes all expired longer than retention seconds ago; how many. Raises StoreError."""

    async def close(self) -> None:
        """Write out and release. No other call follows."""


class StoreError(Exception):
    """The store could not be read or written; the message says which and why, in one sentence."""
