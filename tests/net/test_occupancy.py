"""What limits and stress are decided by: counts of one worker, sums of all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.ipc.page import SCREENING, UPSTREAM, Page
from postwarden_sidecar.net.occupancy import Occupancy, Presence
from postwarden_sidecar.rules.settings import Limits

TEN = Limits(screening=10)


class Pod:
    """Workers that share a page, without processes."""

    def __init__(self, workers: int) -> None:
        self.page = Page.create(workers)
        self.slots = [self.page.slot(index) for index in range(workers)]
        self.said: list[tuple[bool, int]] = []
        self.workers = [
            Occupancy(self.page, cells, lambda on, n: self.said.append((on, n))) for cells in self.slots
        ]

    def close(self) -> None:
        for cells in self.slots:
            cells.release()
        self.page.close()
        os.close(self.page.descriptor)


@pytest.fixture(params=[1, 4])
def pod(request: pytest.FixtureRequest) -> Iterator[Pod]:
    made = Pod(request.param)
    yield made
    made.close()


def come(pod: Pod, count: int, limits: Limits = TEN) -> list[Presence]:
    """So many clients, in turn at each worker; each is known at once."""
    found = []
    for number in range(count):
        presence = pod.workers[number % len(pod.workers)].arrive(limits)
        presence.load(f"192.0.2.{number}")
        found.append(presence)
    return found


def test_a_load_says_what_all_workers_together_have(pod: Pod) -> None:
    there = come(pod, 6)
    there[0].hand_over()
    newcomer = pod.workers[0].arrive(TEN)
    load = newcomer.load("192.0.2.99")
    assert (load.client, load.screening, load.upstream, load.stress) == (1, 6, 1, False)


def test_a_client_is_counted_until_the_mta_has_answered_it(pod: Pod) -> None:
    worker = pod.workers[0]
    first = worker.arrive(TEN)
    assert first.load("2001:db8::").client == 1
    second = worker.arrive(TEN)
    assert second.load("2001:db8::").client == 2
    first.hand_over()
    assert worker.arrive(TEN).load("2001:db8::").client == 3
    first.end()
    assert worker.arrive(TEN).load("2001:db8::").client == 3
    first.end()
    assert worker.arrive(TEN).load("2001:db8::").client == 4


def test_stress_comes_with_the_ninth_of_ten_and_goes_when_seven_are_left(pod: Pod) -> None:
    there = come(pod, 8)
    assert pod.said == []
    ninth = pod.workers[-1].arrive(TEN)
    assert ninth.load("198.51.100.1").stress
    assert pod.said == [(True, 9)]
    assert pod.workers[0].arrive(TEN).load("198.51.100.2").stress, "every worker knows"
    assert pod.said == [(True, 9)], "it is said once"
    there.pop().end()
    there.pop().end()
    for worker in pod.workers:
        worker.settle(TEN)
    assert pod.said == [(True, 9)]
    there.pop().end()
    for worker in pod.workers:
        worker.settle(TEN)
    assert pod.said == [(True, 9), (False, 7)]
    assert not pod.workers[0].arrive(TEN).load("198.51.100.3").stress


def test_marks_are_rounded_down(pod: Pod) -> None:
    come(pod, 9, replace(TEN, screening=12))
    assert pod.said == []
    come(pod, 1, replace(TEN, screening=12))
    assert pod.said == [(True, 10)]


@pytest.mark.parametrize("limits", [replace(TEN, screening=0), None])
def test_without_a_limit_stress_ends(pod: Pod, limits: Limits | None) -> None:
    come(pod, 9)
    pod.workers[-1].settle(limits)
    assert [on for on, _ in pod.said] == [True, False]
    come(pod, 5, replace(TEN, screening=0))
    assert len(pod.said) == 2


def test_stress_outlives_the_worker_that_saw_it() -> None:
    pod = Pod(2)
    come(pod, 8)
    assert pod.workers[1].arrive(TEN).load("a").stress
    pod.page.zero_gauges(1)
    assert pod.workers[0].arrive(TEN).load("b").stress
    pod.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["load", "hand_over", "take_back", "end"])), max_size=40
    )
)
def test_counts_never_go_wrong_whatever_the_order(steps: list[tuple[int, str]]) -> None:
    pod = Pod(1)
    there = [pod.workers[0].arrive(TEN) for _ in range(4)]
    known: set[int] = set()
    for index, step in steps:
        if step != "load":
            getattr(there[index], step)()
        elif index not in known:
            known.add(index)
            there[index].take_back()
            there[index].load("client")
    assert pod.page.total(SCREENING) + pod.page.total(UPSTREAM) <= 4
    for presence in there:
        presence.end()
    assert (pod.page.total(SCREENING), pod.page.total(UPSTREAM)) == (0, 0)
    assert pod.workers[0].clients == {}
    pod.close()
