"""The rules in force: from the operator or from disk, into every worker, and back to disk.

It is the RulesSink of the control client. An order: what a caller began is finished even if the caller is
cancelled, so that workers, disk and our own account never differ for longer than that takes. One at a time, from its first step, in
the order in which they were given: one with large lists that is overtaken must not end after the newer one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping

from postwarden_sidecar.controlclient.stream import NotApplied
from postwarden_sidecar.rules import keys
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import PolicyRef, Rules
from postwarden_sidecar.supervisor.memory_file import Placed, place
from postwarden_sidecar.supervisor.state_directory import StateDirectory
from postwarden_sidecar.supervisor.workers import Workers

FIRST_WORD = 2.0  # seconds that clients wait in the queue for the operator's first word, before they get
# what is set for 'no rules'; an operator that is there answers within tens of milliseconds

_log = logging.getLogger(__name__)


class AppliedRules:
    """See the module. told: an operator has spoken (rules, none, or hold), the disk had rules, or no operator
    is expected."""

    def __init__(
        self,
        workers: Workers,
        state: StateDirectory | None,
        *,
        defer: bool,
        changed: Callable[[Rules | None], None],
        trust: Callable[[bytes], None],
    ) -> None:
        """defer: what clients get without rules. changed: called when rules (None: none) came into force."""
        self._workers = workers
        self._state = state
        self._defer = defer
        self._changed = changed
        self._trust = trust
        self._one_at_a_time = asyncio.Lock()
        self._decided = False  # workers have rules, or were told that there are none
        self._orders: set[asyncio.Task[None]] = set()
        self.rules: Rules | None = None
        self._tables: Mapping[str, Buffer] = {}
        self._complete = True
        self.told = asyncio.Event()
        self.spoken = asyncio.Event()  # by an operator, of this process's time

    @property
    def in_force(self) -> PolicyRef | None:
        """See RulesSink."""
        return None if self.rules is None else self.rules.policy

    @property
    def complete(self) -> bool:
        """See RulesSink."""
        return self._complete

    @property
    def tables(self) -> Mapping[str, Buffer]:
        """See RulesSink."""
        return self._tables

    async def begin(self, *, expect_operator: bool) -> None:
        """Put in force what the disk has; if it has nothing and no operator speaks in time: no rules."""
        saved = await asyncio.to_thread(self._state.load_rules) if self._state is not None else None
        if saved is not None:
            try:
                rules = keys.without_blank_sites(saved.rules)
                complete = rules is saved.rules
                if not complete:
                    os.close(saved.descriptor)
                    saved = await asyncio.to_thread(place, rules)
                await self._finish(self._put_saved(saved, complete=complete))
            except NotApplied as error:
                _log.warning("the last known good rules are not put in force: %s", error)
            else:
                policy = saved.rules.policy
                _log.info("last known good rules of %s/%s are in force", policy.namespace, policy.name)
                self.told.set()
                return
        if expect_operator:
            self._keep(asyncio.create_task(self._start_without()))
        else:
            await self._finish(self._put_none_unless_decided())
            self.told.set()

    async def apply(self, rules: Rules) -> None:
        """See RulesSink."""
        await self._finish(self._place_and_put(rules))
        self._heard()

    async def unmanaged(self) -> None:
        """See RulesSink."""
        await self._finish(self._put_none())
        self._heard()

    async def hold(self, reason: str) -> None:
        """See RulesSink."""
        _log.info("the operator holds the rules back, what is in force stays: %s", reason)
        await self._finish(self._put_none_unless_decided())
        self._heard()

    def trust(self, pem: bytes) -> None:
        """See RulesSink."""
        self._trust(pem)

    async def close(self) -> None:
        """Let what was begun end."""
        for order in tuple(self._orders):
            order.cancel()
        if self._orders:
            await asyncio.wait(self._orders)

    def _heard(self) -> None:
        self.told.set()
        self.spoken.set()

    async def _start_without(self) -> None:
        await asyncio.sleep(FIRST_WORD)
        await self._put_none_unless_decided()

    async def _place_and_put(self, rules: Rules) -> None:
        async with self._one_at_a_time:
            found = await asyncio.to_thread(place, rules)
            await self._put(found, complete=True)
            if self._state is not None:
                await asyncio.to_thread(self._state.save_rules, keys.without_keys(found.rules))

    async def _put_saved(self, saved: Placed, *, complete: bool) -> None:
        async with self._one_at_a_time:
            await self._put(saved, complete=complete)

    async def _put(self, placed: Placed, *, complete: bool) -> None:
        self._workers.name_zones(site.template for site in placed.rules.dnsbl.sites)
        try:
            await self._workers.set_rules(placed.descriptor)
        except NotApplied:
            if not self._decided:
                await self._workers.set_rules(None, defer=self._defer)
                self._decided = True
            raise
        self._decided = True
        self.rules, self._tables, self._complete = placed.rules, placed.tables, complete
        self._changed(placed.rules)

    async def _put_none(self) -> None:
        async with self._one_at_a_time:
            await self._workers.set_rules(None, defer=self._defer)
            self._decided = True
            self.rules, self._tables, self._complete = None, {}, True
            self._changed(None)
            if self._state is not None:
                await asyncio.to_thread(self._state.forget_rules)

    async def _put_none_unless_decided(self) -> None:
        async with self._one_at_a_time:
            if not self._decided:
                await self._workers.set_rules(None, defer=self._defer)
                self._decided = True

    async def _finish(self, order: Coroutine[None, None, None]) -> None:
        await asyncio.shield(self._keep(asyncio.create_task(order)))

    def _keep(self, order: asyncio.Task[None]) -> asyncio.Task[None]:
        self._orders.add(order)
        order.add_done_callback(self._done)
        return order

    def _done(self, order: asyncio.Task[None]) -> None:
        self._orders.discard(order)
        if not order.cancelled() and (error := order.exception()) is not None:
            _log.debug("an order ended: %s", error)  # who waits for it says it; here it is only seen
