"""The pass store for the workers: their questions and what they give, its sweep, and the marks by which they need not ask.

Work that has begun is finished and not cancelled: a pass is worth it. A store that fails is said, and costs clients a wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Protocol

from postwarden_sidecar.ipc.messages import PassAnswer, PassQuery, PassStored
from postwarden_sidecar.ipc.pass_filter import PassFilter
from postwarden_sidecar.rules.settings import Cache
from postwarden_sidecar.stores.memory import MemoryStore
from postwarden_sidecar.stores.sqlite import SqliteStore
from postwarden_sidecar.stores.store import PassStore, StoreError
from postwarden_sidecar.supervisor.kept_tasks import keep

SWEEP_INTERVAL = 3600.0  # seconds; postscreen's cache is swept each 12 h, ours is cheaper to sweep

_log = logging.getLogger(__name__)


class Asker(Protocol):
    """A worker."""

    def send(self, message: PassAnswer) -> None:
        """The answer to its question."""


class StoredPasses:
    """store: for who asks beside the workers. retention: seconds that passes are kept after they have expired."""

    def __init__(self, store: PassStore, marks: PassFilter) -> None:
        self.store = store
        self.retention = Cache().retention
        self._marks = marks
        self._work: set[asyncio.Task[None]] = set()
        self._renew_marks()

    @classmethod
    async def open(cls, path: Path | None, marks: PassFilter) -> StoredPasses:
        """path: the store's file; without one, and where none can be made, passes are in memory only."""
        if path is not None:
            try:
                return cls(await SqliteStore.open(path), marks)
            except StoreError as error:
                _log.warning("passes are kept in memory only: %s", error)
        return cls(MemoryStore(), marks)

    def received(self, worker: Asker, message: PassQuery | PassStored) -> None:
        """A worker asks, or has something to be stored."""
        work = self._answer(worker, message) if isinstance(message, PassQuery) else self._put(message)
        keep(work, self._work)

    async def _answer(self, worker: Asker, query: PassQuery) -> None:
        try:
            known = await self.store.get_many(query.keys)
        except StoreError as error:
            _log.warning("%s", error)
            known = {}
        worker.send(PassAnswer(query.query, known))

    async def _put(self, stored: PassStored) -> None:
        self._marks.add(stored.key)
        try:
            await self.store.put(stored.key, stored.expiries, time.time())
        except StoreError as error:
            _log.warning("%s", error)

    async def sweep(self) -> None:
        """From time to time; never returns."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.store.sweep(time.time(), self.retention)
            except StoreError as error:
                _log.warning("%s", error)
            self._renew_marks()

    def _renew_marks(self) -> None:
        keys = self.store.keys()
        if keys is not None:  # else there are none, or those that were made stay: none is missing among them
            self._marks.renew(keys)

    async def close(self) -> None:
        """Once no worker runs."""
        if self._work:
            await asyncio.wait(self._work)
        await self.store.close()
