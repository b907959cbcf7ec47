"""Which connections are traced."""

from __future__ import annotations

import random

from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.telemetry.sampling import Sampler


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_drop_in_a_hundred_is_traced() -> None:
    clock = Clock()
    sampler = Sampler(clock, random.Random(1).random)
    traced = 0
    for _ in range(20_000):
        clock.now += 0.01
        traced += sampler.sampled(Verdict.DROPPED)
    assert 150 < traced < 250


def test_at_most_ten_drops_a_second_are_traced() -> None:
    clock = Clock()
    sampler = Sampler(clock, lambda: 0.0)
    assert sum(sampler.sampled(Verdict.DROPPED) for _ in range(1000)) == 10
    clock.now += 0.5
    assert sum(sampler.sampled(Verdict.DROPPED) for _ in range(1000)) == 5
    clock.now += 3600
    assert sum(sampler.sampled(Verdict.DROPPED) for _ in range(1000)) == 10


def test_everything_else_is_traced_up_to_fifty_a_second_together() -> None:
    sampler = Sampler(Clock(), lambda: 0.999)
    kinds = [verdict for verdict in Verdict if verdict is not Verdict.DROPPED]
    assert sum(sampler.sampled(kinds[n % len(kinds)]) for n in range(200)) == 50
    assert not sampler.sampled(Verdict.DROPPED)
