"""Whom the pass store may know: marks in the shared page, so that a worker asks for nobody of whom the store has nothing.

Nearly all who come are zombies that no store knows, and each had a question to the supervisor and an answer: a part of what they cost that
could be spared (docs/performance.md). The supervisor marks the place of each key that is stored; a key without a mark was never stored, one
with a mark is asked for, whoever it is the mark of. Until all marks are there every key is asked for, and for good where the store can't
say what it has.

Only the supervisor writes. A mark is a byte, which is written at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection

# Of 5,000 keys in store each stranger's place is marked one time in 50, of 50,000 one in 6: a question too many, no more. 256 KiB, of
# memory only what is touched.
PLACES = 1 << 18
_COMPLETE = 8  # bytes before the marks, of which the first says that all are there
SIZE = _COMPLETE + PLACES  # bytes


class PassFilter:
    """memory: of that size, all zero at first."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def may_know(self, key: str) -> bool:
        """Whether the store is to be asked for the key."""
        memory = self._memory
        return not memory[0] or bool(memory[_place(key)])

    def add(self, key: str) -> None:
        """It is about to be stored."""
        self._memory[_place(key)] = 1

    def renew(self, keys: Collection[str]) -> None:
        """These are all that are stored. No mark that stays is missing for a moment."""
        marks = bytearray(SIZE)
        marks[0] = 1
        for key in keys:
            marks[_place(key)] = 1
        self._memory[1:] = marks[1:]
        self._memory[0] = 1  # last: from here on the marks count

    def release(self) -> None:
        """Before the memory is unmapped."""
        self._memory.release()


def _place(key: str) -> int:
    return _COMPLETE + zlib.crc32(key.encode()) % PLACES
