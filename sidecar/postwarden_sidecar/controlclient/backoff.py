"""How long to wait before the next attempt to reach the operator: full jitter, so that sidecars that lost the
same replica do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1.0  # seconds, upper bound of the first wait
LARGEST = 60.0  # seconds, upper bound of all


class Backoff:
    """Upper bounds FIRST, doubling to LARGEST; the wait is uniform below the bound."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        """uniform: random.uniform, or a test's."""
        self._uniform = uniform
        self._bound = FIRST

    def next_wait(self) -> float:
        """Seconds to wait now."""
        bound, self._bound = self._bound, min(2 * self._bound, LARGEST)
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        """An attempt was good."""
        self._bound = FIRST
