"""Whether what we know of the cluster is what the API server knows. Pure: times are seconds of one clock.

Contract: `Freshness` counts when each kind was last read completely up to that moment. Where that is longer ago
than LIMIT, nothing follows from what is absent: a policy may have been made meanwhile. `WatchLag` compares the
watch with what was read beside it: a connection that is open and silent looks like a cluster in which nothing
happens, and only another way of asking tells the difference.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

Kind = TypeVar("Kind")

LIMIT = 60.0
"""Seconds: some five checks (see `kube.follower`) may fail before what is absent counts as unknown."""

SETTLE = 15.0
"""Seconds after the watch began in which it owes nothing. It lists first, which does not tell of what was deleted
before; the first check after that (10 s at most, see `kube.follower`) still reads of it."""

GRACE = 5.0
"""Seconds that the watch may take longer than a read beside it; milliseconds are usual."""


class Freshness(Generic[Kind]):
    """Not fresh before every kind was heard."""

    def __init__(self, kinds: Iterable[Kind], limit: float = LIMIT) -> None:
        self._heard: dict[Kind, float | None] = dict.fromkeys(kinds)
        self._limit = limit

    def heard(self, kind: Kind, now: float) -> None:
        """All of this kind was read, as it was at `now` or later."""
        self._heard[kind] = now

    def fresh(self, now: float) -> bool:
        return self.doubt(now) is None

    def doubt(self, now: float) -> str | None:
        """Why what is absent can't be relied on, in a sentence for a person; None: it can. Without a number that
        changes, for the sentence is sent to sidecars and written into no status twice."""
        late = [kind for kind, heard in self._heard.items() if heard is None or now - heard > self._limit]
        if not late:
            return None
        return f"the cluster could not be read for more than {self._limit:.0f} s, nothing is taken away meanwhile"


class WatchLag(Generic[Kind]):
    """Resource versions, a number each: of what the watch told, and of what was read beside it."""

    def __init__(self, grace: float = GRACE, settle: float = SETTLE) -> None:
        self._grace, self._settle = grace, settle
        self._began = float("-inf")
        self._told: dict[Kind, int] = {}
        self._owed: dict[Kind, tuple[int, float]] = {}
        """The newest version that the watch owes, and since when it owes anything."""
        self.attempts = 0
        """How often it was given up since it last told anything."""

    def told(self, kind: Kind, version: int) -> None:
        """The watch told of this version."""
        self.attempts = 0
        self._told[kind] = max(version, self._told.get(kind, 0))
        if kind in self._owed and self._told[kind] >= self._owed[kind][0]:
            del self._owed[kind]

    def read(self, kind: Kind, version: int, now: float) -> None:
        """An event of this version was read beside the watch."""
        if now - self._began >= self._settle and version > self._told.get(kind, 0):
            newest, since = self._owed.get(kind, (0, now))
            self._owed[kind] = max(version, newest), since

    def stalled(self, now: float) -> bool:
        """Whether the watch owes something for longer than the grace: it is to begin anew."""
        return any(now - since > self._grace for _, since in self._owed.values())

    def begun(self, now: float) -> None:
        """It lists all there is, and watches."""
        self._began = now
        self._owed.clear()

    def gave_up(self) -> None:
        """It is to begin anew."""
        self._owed.clear()
        self.attempts += 1
