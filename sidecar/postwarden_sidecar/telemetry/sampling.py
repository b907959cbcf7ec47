"""Which connections get a trace: a share of them, and never more than so many a second.

Metrics are exact whatever is sampled, and every connection has its log line. A trace costs some hundred microseconds, a drop
thirty: without a cap the zombies would buy our CPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import SampleRate


@dataclass(frozen=True, slots=True)
class Rate:
    """percent: of connections; per_second: traces at most, also as a burst."""

    percent: float
    per_second: float


DROPPED_RATE = Rate(percent=1, per_second=10)  # the design's defaults
OTHER_RATE = Rate(percent=100, per_second=50)  # shared by all verdicts that no policy names


class _Bucket:
    """A token bucket that holds one second's worth."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self.share = rate.percent / 100
        self._tokens = rate.per_second
        self._filled = now

    def take(self, now: float) -> bool:
        self._tokens = min(self.rate.per_second, self._tokens + (now - self._filled) * self.rate.per_second)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Sampler:
    """Decides by the verdict. clock: seconds, never going back; chance: a source of random numbers in [0, 1)."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._rates: tuple[SampleRate, ...] = ()
        now = clock()
        self._other = _Bucket(OTHER_RATE, now)
        self._own = {Verdict.DROPPED.value: _Bucket(DROPPED_RATE, now)}

    def set_rates(self, rates: tuple[SampleRate, ...]) -> None:
        """The policy's; a verdict that it does not name has its default. The same again changes nothing. Called by another thread
        than `sampled`."""
        if rates == self._rates:
            return
        now = self._clock()
        own = {Verdict.DROPPED.value: _Bucket(DROPPED_RATE, now)}
        own |= {rate.verdict: _Bucket(Rate(rate.percent, rate.per_second), now) for rate in rates}
        self._rates, self._own = rates, own

    def sampled(self, verdict: Verdict) -> bool:
        """Whether this connection gets a trace."""
        bucket = self._own.get(verdict._value_, self._other)
        return self._chance() < bucket.share and bucket.take(self._clock())
