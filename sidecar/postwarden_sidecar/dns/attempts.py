"""Whom one look-up asks next.

A resolver that refuses is not asked again, and the next one is asked at once. One that is silent is passed over too, but its answer
still counts if it comes in time; when all were asked, they are asked again in turn, for a datagram may be lost.
"""

from __future__ import annotations

ATTEMPT = 2.0  # seconds that one resolver has before the next is asked: three attempts within a greeting's wait of 6 s


class Attempts:
    """count: resolvers, numbered from 0 in the order of preference."""

    def __init__(self, count: int) -> None:
        self._unasked = list(range(count))
        self._asked: list[int] = []  # and not failed; the one asked longest ago comes first

    @property
    def exhausted(self) -> bool:
        """Every resolver has failed."""
        return not self._unasked and not self._asked

    def next_unasked(self) -> int | None:
        """The next resolver that was not asked yet."""
        if not self._unasked:
            return None
        self._asked.append(self._unasked.pop(0))
        return self._asked[-1]

    def next(self) -> int | None:
        """The next resolver, asked before or not; None: all have failed."""
        if self._unasked or not self._asked:
            return self.next_unasked()
        self._asked.append(self._asked.pop(0))
        return self._asked[-1]

    def fail(self, resolver: int) -> None:
        """It refuses, or can't be reached."""
        if resolver in self._asked:
            self._asked.remove(resolver)
