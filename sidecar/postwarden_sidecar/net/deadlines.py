"""The deadlines of a loop's handlers: each has one or none, and most are taken back or put off before they come.

Those of the next moments are in a heap. The others lie in slices of time, lists of handlers in no order, until their slice begins: a place
in a list is 8 bytes of each client that waits, where a heap's entry with the time and what breaks a tie took 105, and nothing is compared.
"""

from __future__ import annotations

import heapq
from typing import Protocol

SLICES = 16.0  # a second
FEW = 16  # entries of a slice, that are looked through for one that is taken back: half a microsecond


class Handler(Protocol):
    """Who owns a descriptor or a deadline. `queued_at` is of the loop's deadlines; begin with None."""

    deadline: float | None
    queued_at: float | None

    def handle_events(self, fd: int, events: int) -> None:
        """The descriptor is ready (select.EPOLL* bits)."""

    def handle_deadline(self) -> None:
        """The deadline has passed; it is None now."""

    def fail(self) -> None:
        """A defect of ours was raised by one of the two above: close what you own. Never raises."""


class Deadlines:
    """All times are CLOCK_MONOTONIC seconds. An entry that no longer holds is dropped when its time comes: handler.queued_at is the time of
    the one that does."""

    def __init__(self, now: float) -> None:
        self._heap: list[tuple[float, int, Handler]] = []  # of slices that have begun
        self._sequence = 0
        self._later: dict[int, list[Handler]] = {}
        self._slices: list[int] = []  # a heap of the keys of `_later`
        self._begun = int(now * SLICES)  # the slice that began last
        self._entries = 0
        self._cancelled = 0  # deadlines taken back since entries were last looked through

    def __len__(self) -> int:
        return self._entries

    def set(self, handler: Handler, when: float | None) -> None:
        """From now on it is due at `when`; None: never."""
        before = handler.deadline
        handler.deadline = when
        if when is None:
            if before is not None:
                self._take_back(handler)
            return
        queued_at = handler.queued_at
        if queued_at is None or when < queued_at:
            self._add(handler, when)

    def next(self) -> float | None:
        """When to call `take`; None: nothing is to come."""
        if self._heap:
            return self._heap[0][0]
        return self._slices[0] / SLICES if self._slices else None

    def take(self, now: float) -> Handler | None:
        """Whose deadline has come, the earliest first; it is None then. To be asked until there is nobody."""
        self._begun = int(now * SLICES)
        while self._slices and self._slices[0] <= self._begun:
            number = heapq.heappop(self._slices)
            handlers = self._later.pop(number)
            self._entries -= len(handlers)
            for handler in handlers:
                if _holds(handler, number):
                    self._renew(handler)
        while self._heap and self._heap[0][0] <= now:
            when, _, handler = heapq.heappop(self._heap)
            self._entries -= 1
            if handler.queued_at != when:
                continue  # an earlier entry took its place
            if handler.deadline is not None and handler.deadline <= now:
                handler.deadline = handler.queued_at = None
                return handler
            self._renew(handler)
        return None

    def _add(self, handler: Handler, when: float) -> None:
        handler.queued_at = (
            handler.deadline
        )  # it is `when`, but compiled that would be a second float of 32 bytes
        self._entries += 1
        number = int(when * SLICES)
        if number <= self._begun:
            self._sequence += 1
            heapq.heappush(self._heap, (when, self._sequence, handler))
            return
        later = self._later.get(number)
        if later is not None:
            later.append(handler)
        else:
            self._later[number] = [handler]
            heapq.heappush(self._slices, number)

    def _take_back(self, handler: Handler) -> None:
        """Its entry may be hours ahead, and would keep in memory what the handler was decided by: rules of long ago. Where few wait it goes
        now; where many do, all entries go together that are taken back."""
        number = -1 if handler.queued_at is None else int(handler.queued_at * SLICES)
        entries = self._later.get(number)
        if entries is not None and len(entries) <= FEW and handler in entries:
            entries.remove(handler)
            self._entries -= 1
            handler.queued_at = None
            return
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled > self._entries // 2:
            self._compact()

    def _renew(self, handler: Handler) -> None:
        """Its entry is gone."""
        handler.queued_at = None
        if handler.deadline is not None:
            self._add(handler, handler.deadline)

    def _compact(self) -> None:
        """Drop the entries of handlers that are gone: an entry may lie hours ahead and would keep its handler
        in memory."""
        held = [handler for when, _, handler in self._heap if handler.queued_at == when]
        for number, handlers in self._later.items():
            held += [handler for handler in handlers if _holds(handler, number)]
        self._heap, self._later, self._slices = [], {}, []
        self._entries = self._cancelled = 0
        for handler in dict.fromkeys(held):
            self._renew(handler)


def _holds(handler: Handler, number: int) -> bool:
    """An entry in this slice is the handler's, and no earlier one took its place."""
    return handler.queued_at is not None and int(handler.queued_at * SLICES) == number
