"""A fuzzer's bytes read as choices: which setting, which event, what is said. Any bytes are some course of events, and a small change of
the bytes is a small change of the course. `Writer` makes such bytes for the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
LITERAL = 240  # lengths below are that many bytes as they are; above: one byte, many times
REPEATED = 600  # bytes for each step above LITERAL


class Choices:
    """Reads until the bytes are over; from then on every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        """No byte is left."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        self._at += 1
        return 0 if self._at > len(self._data) else self._data[self._at - 1]

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.byte() % len(options)]

    def chunk(self) -> bytes:
        """Bytes that somebody sends: as they are, or one byte for a long time."""
        length = self.byte()
        if length >= LITERAL:
            return bytes((self.byte(),)) * (REPEATED * (length - LITERAL + 1))
        start = self._at
        self._at += length
        return self._data[start : start + length]

    def rest(self) -> bytes:
        """All that is left."""
        start, self._at = self._at, len(self._data)
        return self._data[start:]

    def pieces(self, data: bytes, at_most: int = 8) -> list[bytes]:
        """data, cut."""
        result = []
        for _ in range(self.byte() % at_most):
            size = self.byte()
            result.append(data[:size])
            data = data[size:]
        return [*result, data]


class Writer:
    """The other way round: bytes that are read as these choices."""

    def __init__(self) -> None:
        self.data = b""

    def byte(self, value: int) -> None:
        self.data += bytes((value,))

    def chunk(self, data: bytes) -> None:
        """At most LITERAL - 1 bytes; longer ones have to be one byte, repeated."""
        if len(data) < LITERAL:
            self.data += bytes((len(data),)) + data
        else:
            steps = min(len(data) // REPEATED, 255 - LITERAL + 1) or 1
            self.data += bytes((LITERAL + steps - 1,)) + data[:1]
