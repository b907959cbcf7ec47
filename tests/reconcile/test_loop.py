"""The debounced loop, in virtual time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.reconcile.loop import Reconciler
from postwarden_operator.reconcile.plan import Plan
from postwarden_operator.reconcile.world import World

pytestmark = pytest.mark.looptime


class Source:
    """Counts and times the reconciles; fails or is incomplete if told so."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.plans: list[Plan] = []
        self.failures = 0
        self.complete = True
        self.registry = Registry(self)
        self.reconciler = Reconciler(self._read, self.registry, self.plans.append)

    def state_changed(self, pod_uid: str) -> None:
        raise AssertionError("there is no stream")

    async def _read(self) -> World | None:
        self.times.append(round(asyncio.get_running_loop().time(), 3))
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the source is broken")
        return World() if self.complete else None


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    running = asyncio.create_task(source.reconciler.run())
    yield source
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_changes_close_to_each_other_lead_to_one_reconcile(source: Source) -> None:
    for _ in range(3):
        source.reconciler.mark_dirty()
        await asyncio.sleep(0.03)
    await asyncio.sleep(1)
    assert source.times == [0.15]  # the third round of 50 ms is the first without a change
    assert source.registry.ready


async def test_changes_without_end_do_not_put_off_the_reconcile_for_ever(source: Source) -> None:
    for _ in range(100):
        source.reconciler.mark_dirty()
        await asyncio.sleep(0.01)
    assert source.times[0] == 0.5


async def test_nothing_is_done_while_nothing_changes(source: Source) -> None:
    await asyncio.sleep(3600)
    assert source.times == []


async def test_incomplete_world_makes_nothing_wanted(source: Source) -> None:
    source.complete = False
    source.reconciler.mark_dirty()
    await asyncio.sleep(10)
    assert source.times == [0.05]
    assert source.plans == []
    assert not source.registry.ready


async def test_failure_is_tried_again_and_forgets_nothing(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.failures = 2
    source.reconciler.mark_dirty()
    await asyncio.sleep(10)
    assert len(source.times) == 3
    assert len(source.plans) == 1
    assert "reconciling failed" in caplog.text
