"""The garbage collector visits what lives long only now and then."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import ref

import pytest
from eventually import until
from postwarden_operator.kube import garbage


class Node:
    """One that refers to itself, which only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, *, pause: float, thaw: float = 3600.0
) -> AsyncIterator[None]:
    monkeypatch.setattr(garbage, "PAUSE", pause)
    monkeypatch.setattr(garbage, "THAW", thaw)
    task = asyncio.create_task(garbage.short_collections())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_long_collection_left_alive_is_visited_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, pause=-1.0):
        node = Node()
        gc.collect()
        assert gc.get_freeze_count() > 0
        assert not any(each is node for each in gc.get_objects())
    assert gc.get_freeze_count() == 0


async def test_short_collections_leave_all_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, pause=3600.0):
        gc.collect()
        assert gc.get_freeze_count() == 0


async def test_cycles_among_it_are_freed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, pause=-1.0, thaw=0.01):
        node = Node()
        gone = ref(node)
        gc.collect()
        del node
        await until(lambda: gone() is None)
