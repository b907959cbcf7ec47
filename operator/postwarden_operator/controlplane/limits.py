"""What one caller may take of the operator: new streams, messages, transfers. Time is an argument.

Contract: a limit is far above what a sidecar does, also at its worst, so that who meets one is no sidecar. Each is per pod or per
stream, but for the calls whose token is not reviewed yet, which are counted together. Who goes too far is refused or slowed down, and
nobody else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

UNPROVEN_CALLS = 2000
"""Calls in progress whose token is not reviewed yet: 40 rounds of reviews. When more sidecars come back at once, some wait a minute."""

UNPROVEN_OF_A_CONNECTION = 50
"""Of those: a sidecar asks for a stream and a few blobs."""

NEW_STREAMS = 10.0, 0.5
"""Of one pod: at once, and a second from then on. A sidecar opens one in half an hour, and waits up to a minute if that fails."""

MESSAGES = 300.0, 50.0
"""Of one stream: at once, and a second from then on. A sidecar says most when it reports on 32 zones, and again after each snapshot."""

TRANSFERS = 32
"""FetchBlob calls served at a time; the others wait. It bounds memory when a list changes for thousands of pods (design)."""

TRANSFERS_OF_A_POD = 4
"""Of those: else one that reads slowly could hold them all."""


class TooMany(Exception):
    """The text says of what."""


@dataclass(slots=True)
class Pace:
    """A bucket: `burst` at once, `rate` a second from then on."""

    burst: float
    rate: float
    _level: float = 0.0
    _at: float = 0.0

    def take(self, now: float) -> float:
        """One more. Seconds by which it is too early; 0: it is not."""
        self._level = self._left(now) + 1
        self._at = now
        return max(0.0, (self._level - self.burst) / self.rate)

    def full(self, now: float) -> bool:
        """Whether one more would be too early."""
        return self._left(now) + 1 > self.burst

    def _left(self, now: float) -> float:
        return max(0.0, self._level - (now - self._at) * self.rate)

    def idle(self, now: float) -> bool:
        """Whether it is as good as new."""
        return self._left(now) == 0


class CallLimits:
    """Of one server; used from one event loop."""

    def __init__(self) -> None:
        self._unproven: Counter[str] = Counter()
        self._unproven_total = 0
        self._streams: dict[str, Pace] = {}
        self._transfers = asyncio.Semaphore(TRANSFERS)
        self._of_pod: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @contextmanager
    def unproven(self, connection: str) -> Iterator[None]:
        """Around what is done for a call whose caller is not known yet. connection: which it came by. Raises TooMany."""
        if self._unproven_total >= UNPROVEN_CALLS or self._unproven[connection] >= UNPROVEN_OF_A_CONNECTION:
            raise TooMany("too many calls wait for the review of their token: come again later")
        self._unproven[connection] += 1
        self._unproven_total += 1
        try:
            yield
        finally:
            self._unproven_total -= 1
            self._unproven[connection] -= 1
            if not self._unproven[connection]:
                del self._unproven[connection]

    def new_stream(self, pod_uid: str, now: float) -> None:
        """This pod opens a stream. Raises TooMany."""
        if len(self._streams) > 2 * UNPROVEN_CALLS:
            self._streams = {uid: pace for uid, pace in self._streams.items() if not pace.idle(now)}
        pace = self._streams.setdefault(pod_uid, Pace(*NEW_STREAMS))
        if pace.full(
            now
        ):  # those that are refused count not, or a pod that goes on trying would be shut out for good
            raise TooMany("too many streams of this pod: it needs one, and a new one in half an hour")
        pace.take(now)

    @asynccontextmanager
    async def transfer(self, pod_uid: str) -> AsyncIterator[None]:
        """Around a transfer to this pod: waits for its turn."""
        mine = self._of_pod.setdefault(pod_uid, asyncio.Semaphore(TRANSFERS_OF_A_POD))
        self._users[pod_uid] += 1
        try:
            async with mine, self._transfers:
                yield
        finally:
            self._users[pod_uid] -= 1
            if not self._users[pod_uid]:
                del self._users[pod_uid], self._of_pod[pod_uid]
