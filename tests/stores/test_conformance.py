"""What every pass store does; each implementation passes all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from postwarden_sidecar.stores.memory import MemoryStore
from postwarden_sidecar.stores.sqlite import SqliteStore
from postwarden_sidecar.stores.store import PassStore

T = TypeVar("T")
NOW = 1_700_000_000.0
RETENTION = 100.0


async def open_memory(directory: Path) -> PassStore:
    return MemoryStore()


async def open_sqlite(directory: Path) -> PassStore:
    return await SqliteStore.open(directory / "passes.sqlite")


async def open_crowded_sqlite(directory: Path) -> PassStore:
    """Its file has more keys than it keeps in memory."""
    return await SqliteStore.open(directory / "passes.sqlite", in_memory=1)


@pytest.fixture(params=[open_memory, open_sqlite, open_crowded_sqlite])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PassStore]:
    opened = await request.param(tmp_path)
    yield opened
    await opened.close()


async def test_an_unknown_key_has_no_passes(store: PassStore) -> None:
    assert await store.get("192.0.2.1") == {}


async def test_passes_are_known_even_when_they_have_expired(store: PassStore) -> None:
    await store.put("192.0.2.1", {"pregreet": NOW + 10, "dnsbl": NOW - 5}, NOW)
    assert await store.get("192.0.2.1") == {"pregreet": NOW + 10, "dnsbl": NOW - 5}


async def test_the_newest_expiry_of_a_test_counts_and_other_tests_are_kept(store: PassStore) -> None:
    await store.put("2001:db8::/64", {"pregreet": NOW + 10, "dnsbl": NOW + 1}, NOW)
    await store.put("2001:db8::/64", {"pregreet": NOW + 5}, NOW)
    assert await store.get("2001:db8::/64") == {"pregreet": NOW + 5, "dnsbl": NOW + 1}


async def test_keys_are_apart(store: PassStore) -> None:
    await store.put("192.0.2.1", {"pregreet": NOW + 10}, NOW)
    assert await store.get("192.0.2.10") == {}


async def test_many_keys_are_asked_for_at_once(store: PassStore) -> None:
    await store.put("192.0.2.1", {"pregreet": NOW + 10, "dnsbl": NOW - 5}, NOW)
    await store.put("192.0.2.2", {"pregreet": NOW + 20}, NOW)
    assert await store.get_many([f"192.0.2.{number}" for number in range(1, 5)]) == {
        "192.0.2.1": {"pregreet": NOW + 10, "dnsbl": NOW - 5},
        "192.0.2.2": {"pregreet": NOW + 20},
    }
    assert await store.get_many([]) == {}


async def test_a_sweep_removes_keys_whose_passes_all_expired_longer_ago_than_the_retention(
    store: PassStore,
) -> None:
    await store.put("old", {"pregreet": NOW, "dnsbl": NOW - 50}, NOW)
    await store.put("young", {"pregreet": NOW + 1, "dnsbl": NOW - 5000}, NOW)
    assert await store.sweep(NOW + RETENTION - 1, RETENTION) == 0
    assert await store.sweep(NOW + RETENTION, RETENTION) == 1
    assert await store.get("young") == {"pregreet": NOW + 1, "dnsbl": NOW - 5000}
    assert await store.get("old") == {}
    assert await store.sweep(NOW + RETENTION + 1, RETENTION) == 1


async def test_a_store_that_has_all_in_memory_can_say_what_it_has(store: PassStore) -> None:
    can = store.keys() is not None
    for number in (1, 2):
        await store.put(f"192.0.2.{number}", {"pregreet": NOW}, NOW)
    keys = store.keys()
    assert keys is None or sorted(keys) == ["192.0.2.1", "192.0.2.2"]
    assert can, "each is empty at first"


class AgainstADict(RuleBasedStateMachine):
    """The store does what a dict of dicts would, in any order of calls. A subclass a store."""

    persistent: ClassVar[bool]
    keys = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::/64", ""])
    times = st.integers(0, 400).map(lambda offset: NOW + offset)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = TemporaryDirectory()
        self.model: dict[str, dict[str, float]] = {}

    async def open_store(self, directory: Path) -> PassStore:
        raise NotImplementedError

    def run(self, step: Awaitable[T]) -> T:
        async def stepped() -> T:
            return await step

        return self.loop.run_until_complete(stepped())

    @initialize()
    def begin(self) -> None:
        self.store = self.run(self.open_store(Path(self.directory.name)))

    @rule(
        key=keys,
        expiries=st.dictionaries(st.sampled_from(["pregreet", "dnsbl"]), times, min_size=1),
        now=times,
    )
    def put(self, key: str, expiries: dict[str, float], now: float) -> None:
        self.run(self.store.put(key, expiries, now))
        self.model.setdefault(key, {}).update(expiries)

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.run(self.store.get(key)) == self.model.get(key, {})

    @rule()
    def keys_of_all(self) -> None:
        keys = self.store.keys()
        assert keys is None or sorted(keys) == sorted(self.model)

    @rule(now=times)
    def sweep(self, now: float) -> None:
        old = [key for key, known in self.model.items() if max(known.values()) <= now - RETENTION]
        assert self.run(self.store.sweep(now, RETENTION)) == len(old)
        for key in old:
            del self.model[key]

    @rule()
    def reopen(self) -> None:
        if self.persistent:
            self.run(self.store.close())
            self.begin()

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.directory.cleanup()


class MemoryAgainstADict(AgainstADict):
    persistent = False

    async def open_store(self, directory: Path) -> PassStore:
        return await open_memory(directory)


class SqliteAgainstADict(AgainstADict):
    persistent = True

    async def open_store(self, directory: Path) -> PassStore:
        return await open_sqlite(directory)


class CrowdedSqliteAgainstADict(AgainstADict):
    persistent = True

    async def open_store(self, directory: Path) -> PassStore:
        return await open_crowded_sqlite(directory)


TestMemoryAgainstADict = MemoryAgainstADict.TestCase
TestSqliteAgainstADict = SqliteAgainstADict.TestCase
TestCrowdedSqliteAgainstADict = CrowdedSqliteAgainstADict.TestCase
TestMemoryAgainstADict.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestSqliteAgainstADict.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestCrowdedSqliteAgainstADict.settings = TestSqliteAgainstADict.settings
