"""The store as workers see it: what they give is there after a restart, and marked; what they ask is answered."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from eventually import until
from postwarden_sidecar.ipc.messages import PassAnswer, PassQuery, PassStored
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.stores.sqlite import SqliteStore
from postwarden_sidecar.supervisor import stored_passes
from postwarden_sidecar.supervisor.stored_passes import StoredPasses

LATER = time.time() + 1000


class Worker:
    """told: what it was sent."""

    def __init__(self) -> None:
        self.told: list[PassAnswer] = []

    def send(self, message: PassAnswer) -> None:
        self.told.append(message)


def known(page: Page) -> list[bool]:
    return [page.passes.may_know(key) for key in ("192.0.2.1", "192.0.2.2")]


@pytest.mark.parametrize("in_file", [True, False])
async def test_a_key_is_marked_once_it_is_stored_and_asked_for_by_who_knows_the_mark(
    page: Page, tmp_path: Path, in_file: bool
) -> None:
    worker = Worker()
    passes = await StoredPasses.open(tmp_path / "passes" if in_file else None, page.passes)
    assert known(page) == [False, False]
    passes.received(worker, PassStored("192.0.2.1", {"pregreet": LATER}))
    passes.received(worker, PassQuery(7, ("192.0.2.1", "192.0.2.2")))
    await passes.close()
    assert known(page) == [True, False]
    assert worker.told == [PassAnswer(7, {"192.0.2.1": {"pregreet": LATER}})]


async def test_what_a_file_has_is_marked_at_the_start(page: Page, tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "passes")
    await store.put("192.0.2.1", {"pregreet": LATER}, time.time())
    await store.close()
    passes = await StoredPasses.open(tmp_path / "passes", page.passes)
    assert known(page) == [True, False]
    await passes.close()


async def test_of_a_store_that_can_not_say_what_it_has_all_are_asked_for(page: Page, tmp_path: Path) -> None:
    passes = StoredPasses(await SqliteStore.open(tmp_path / "passes", in_memory=0), page.passes)
    assert known(page) == [True, True]
    await passes.close()


async def test_a_store_that_outgrows_its_memory_loses_no_mark(page: Page, tmp_path: Path) -> None:
    passes = StoredPasses(await SqliteStore.open(tmp_path / "passes", in_memory=1), page.passes)
    for key in ("192.0.2.1", "192.0.2.2"):
        passes.received(Worker(), PassStored(key, {"pregreet": LATER}))
    await passes.close()
    assert known(page) == [True, True]
    assert not page.passes.may_know("192.0.2.3")


async def test_a_sweep_takes_marks_away_of_those_it_removes(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_passes, "SWEEP_INTERVAL", 0)
    passes = await StoredPasses.open(tmp_path / "passes", page.passes)
    passes.retention = 0
    await passes.store.put("192.0.2.1", {"pregreet": 1.0}, 1.0)
    await passes.store.put("192.0.2.2", {"pregreet": LATER}, 1.0)
    page.passes.renew(("192.0.2.1", "192.0.2.2"))
    sweep = asyncio.create_task(passes.sweep())
    await until(lambda: known(page) == [False, True])
    sweep.cancel()
    await asyncio.wait([sweep])
    await passes.close()


async def test_where_no_file_can_be_made_passes_are_in_memory_and_that_is_said(
    page: Page, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passes = await StoredPasses.open(tmp_path / "none" / "passes", page.passes)
    assert "passes are kept in memory only" in caplog.text
    assert known(page) == [False, False]
    await passes.close()
