"""Who of several replicas leads, by a Lease of coordination.k8s.io. Pure: time is an argument, requests are the shell's.

Contract: as client-go's leader election. Who leads renews the Lease and stops leading by itself `renew_deadline` after the last renewal
that the API server took, counted from before it was asked; the others take the Lease over when they have seen it unchanged for its whole
`duration`, by their own clocks alone: clocks of different machines are never compared. Every write names the resource version it is
based on, so that of two only one is taken. Two lead at once only if one machine's clock runs half as fast again as another's.
"""

from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. duration: of the Lease; renew_deadline: see above; retry: between two requests."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    @classmethod
    def of(cls, duration: float) -> "Timing":
        """In client-go's proportions (LeaseDuration 15 s, RenewDeadline 10 s, RetryPeriod 2 s)."""
        return cls(duration, duration * 2 / 3, duration * 2 / 15)


@dataclass(frozen=True, slots=True)
class Lease:
    """holder: empty where it was released. duration: seconds. version: the object's resource version; empty: not stored yet."""

    holder: str
    duration: float
    transitions: int = 0
    version: str = ""


class Need(Enum):
    """What to do next."""

    READ = "read"
    WAIT = "wait"


class Election:
    """One replica's part in it. identity: unique among all that ever run."""

    def __init__(self, identity: str, timing: Timing) -> None:
        self._identity = identity
        self._timing = timing
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._known = False
        """Whether `_seen` is what the API server said last, as far as we know."""
        self._leads_until: float | None = None

    def leading(self, now: float) -> bool:
        return self._leads_until is not None and now < self._leads_until

    @property
    def holder(self) -> str:
        """By what was seen last; empty: nobody, or not known."""
        return "" if self._seen is None else self._seen.holder

    def next(self, now: float) -> Lease | Need:
        """A Lease to be written (`version` empty: made), or whether to read it or to wait. To be asked every `retry` seconds."""
        if not self._known:
            return Need.READ
        seen = self._seen
        if seen is None:
            return Lease(self._identity, self._timing.duration)
        if seen.holder == self._identity:
            return replace(seen, duration=self._timing.duration)
        # Not read a moment ago: it may have been renewed since.
        self._known = False
        if seen.holder == "" or now >= self._seen_at + seen.duration:
            return Lease(self._identity, self._timing.duration, seen.transitions + 1, seen.version)
        return Need.WAIT

    def found(self, lease: Lease | None, now: float) -> None:
        """The answer to a read that came at `now`; None: there is no Lease."""
        if lease is None or self._seen is None or lease.version != self._seen.version:
            self._seen, self._seen_at = lease, now
        self._known = True
        if lease is None or lease.holder != self._identity:
            self._leads_until = None

    def written(self, lease: Lease, sent_at: float) -> None:
        """The write was taken. sent_at: a time before it was sent. lease: as it is stored."""
        self._seen, self._seen_at, self._known = lease, sent_at, True
        self._leads_until = sent_at + self._timing.renew_deadline if lease.holder == self._identity else None

    def failed(self) -> None:
        """The write was refused, or nobody knows whether it was taken: the Lease must be read."""
        self._known = False

    def release(self) -> Lease | None:
        """What to write at the end, so that the next one need not wait; from now on this one does not lead. None: nothing."""
        leads, self._leads_until = self._leads_until is not None, None
        if not leads or self._seen is None:
            return None
        return replace(self._seen, holder="", duration=1.0)
