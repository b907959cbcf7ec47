"""A pass store in memory: gone with the process, and bounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

MAX_KEYS = 200_000  # about 60 MB; beyond that the oldest entry goes, which costs its client a wait


class MemoryStore:
    """PassStore in a dict."""

    def __init__(self) -> None:
        self._passes: dict[str, dict[str, float]] = {}

    async def get(self, key: str) -> dict[str, float]:
        """See PassStore."""
        return dict(self._passes.get(key, {}))

    async def get_many(self, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        """See PassStore."""
        return {key: dict(found) for key in keys if (found := self._passes.get(key))}

    def keys(self) -> Collection[str]:
        """See PassStore."""
        return self._passes.keys()

    async def put(self, key: str, expiries: Mapping[str, float], now: float) -> None:
        """See PassStore."""
        self._passes[key] = self._passes.pop(key, {}) | dict(expiries)
        if len(self._passes) > MAX_KEYS:
            del self._passes[next(iter(self._passes))]

    async def sweep(self, now: float, retention: float) -> int:
        """See PassStore."""
        limit = now - retention
        old = [key for key, known in self._passes.items() if max(known.values(), default=0.0) <= limit]
        for key in old:
            del self._passes[key]
        return len(old)

    async def close(self) -> None:
        """See PassStore."""
        self._passes.clear()
