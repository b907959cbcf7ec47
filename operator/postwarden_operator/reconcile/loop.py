"""The loop around the plan.

Waits until changes settle, plans, and tells the streams and whoever writes the status.

Contract: `mark_dirty` costs nothing and loses nothing: a change during a reconcile leads to another. A
failure is logged and tried again; what the sidecars have stays. A policy whose lists are large is planned with what it was before until
they are compiled, which leads to another reconcile.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.list_process import ListProcess
from postwarden_operator.reconcile.list_tables import ListTables
from postwarden_operator.reconcile.observer import NOBODY, ReconcileObserver, ReconcileTimes
from postwarden_operator.reconcile.plan import Plan, Planner, Select
from postwarden_operator.reconcile.world import World

RETRY_DELAY = 1.0
"""Seconds after a failed reconcile."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Debounce:
    """Seconds: a reconcile begins when nothing changed for `quiet`, and at `most` after the first change.

    `kubectl apply` of a folder comes as many events within milliseconds; a person waits for two seconds at
    most.
    """

    quiet: float = 0.05
    most: float = 0.5


class Reconciler:
    """read: the World now, or None while it is incomplete. publish: gets every plan, just before the streams do. select: see Planner.

    doubt: see Registry.set_wanted; whoever knows marks dirty when it comes or goes.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[World | None]],
        registry: Registry,
        publish: Callable[[Plan], None],
        *,
        doubt: Callable[[], str | None] = lambda: None,
        strict: bool = False,
        select: Select | None = None,
        debounce: Debounce = Debounce(),
        compiler: Compiler | None = None,
        observer: ReconcileObserver = NOBODY,
    ) -> None:
        self._read = read
        self._registry = registry
        self._publish = publish
        self._doubt = doubt
        self._compiler = compiler if compiler is not None else Compiler(strict=strict)
        self._planner = Planner(self._compiler, select)
        self._debounce = debounce
        self._observer = observer
        self._dirty = asyncio.Event()
        self._dirty_since: float | None = None
        """Epoch seconds of the first change that no reconcile has begun with."""

    def mark_dirty(self) -> None:
        """Something changed. From the loop's own thread."""
        if self._dirty_since is None:
            self._dirty_since = time.time()
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled. From now on nothing waits for large lists."""
        self._compiler.compile_elsewhere(ListTables(ListProcess()), self.mark_dirty)
        try:
            while True:
                await self._dirty.wait()
                await self._settle()
                try:
                    await self.reconcile()
                except Exception:
                    self._observer.failed()
                    _log.exception("reconciling failed; what the sidecars have stays; trying again")
                    await asyncio.sleep(RETRY_DELAY)
                    self._dirty.set()
        finally:
            self._compiler.close()

    async def reconcile(self) -> Plan | None:
        """Once, now. None: the World is incomplete still."""
        began = time.time()
        dirty, self._dirty_since = self._dirty_since or began, None
        world = await self._read()
        if world is None:
            return None
        result = self._planner.plan(world)
        self._publish(result)
        self._observer.reconciled(ReconcileTimes(dirty, began, time.time()), result)
        self._registry.set_wanted(result.wanted, doubt=self._doubt())
        return result

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._debounce.most
        while self._dirty.is_set() and (left := end - loop.time()) > 0:
            self._dirty.clear()
            await asyncio.sleep(min(self._debounce.quiet, left))
        self._dirty.clear()
