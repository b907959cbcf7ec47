"""Which connections are traced."""

from __future__ import annotations

import random

from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.rules.settings import SampleRate
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


def test_a_policy_has_a_rate_of_its_own_for_each_verdict_it_names() -> None:
    sampler = Sampler(Clock(), lambda: 0.5)
    sampler.set_rates((SampleRate("rejected", 0, 100), SampleRate("dropped", 100, 3)))
    assert not any(sampler.sampled(Verdict.REJECTED) for _ in range(100))
    assert sum(sampler.sampled(Verdict.DROPPED) for _ in range(100)) == 3
    assert sum(sampler.sampled(Verdict.HANGUP) for _ in range(100)) == 50
    sampler.set_rates((SampleRate("hangup", 60, 2),))
    assert sum(sampler.sampled(Verdict.HANGUP) for _ in range(100)) == 2
    assert not sampler.sampled(Verdict.DROPPED)  # the default again: one in a hundred


def test_the_same_rates_again_give_no_new_burst() -> None:
    sampler = Sampler(Clock(), lambda: 0.5)
    for _ in range(3):
        sampler.set_rates((SampleRate("rejected", 100, 2),))
        sampler.sampled(Verdict.REJECTED)
    assert not sampler.sampled(Verdict.REJECTED)
