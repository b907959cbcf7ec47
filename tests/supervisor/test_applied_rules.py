"""The order in which rules come into force: what the operator said last counts, however long an older order takes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
from controlclient.snapshots import add_rule, snapshot
from eventually import until
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.supervisor import applied_rules as module
from postwarden_sidecar.supervisor.applied_rules import AppliedRules
from postwarden_sidecar.supervisor.memory_file import Placed, place
from supervisor.pools import Pool, pool

COPYING = 0.2
"""Seconds that the large list takes at least: far more than the whole of a small order."""


def rules(version: str, *, denied: bool) -> Rules:
    message = snapshot(version, banner="")
    if denied:
        add_rule(message, [("127.0.0.0/8", 2, 7)])
    return decode(message, {})


@contextlib.asynccontextmanager
async def overtaken(
    version: str, *, denied: bool, newer: Rules | None
) -> AsyncIterator[tuple[Pool, AppliedRules]]:
    """These rules are being put in force when a newer word comes (None: no policy); all orders have ended."""
    async with pool(1, rules("v0", denied=False)) as made:
        sink = AppliedRules(made.workers, None, defer=True, changed=lambda _: None, trust=lambda _: None)
        others = asyncio.all_tasks()
        older = asyncio.create_task(sink.apply(rules(version, denied=denied)))
        await until(lambda: len(asyncio.all_tasks() - others) == 2)  # it, and the order that it gave
        older.cancel()
        with pytest.raises(asyncio.CancelledError):
            await older
        await (sink.unmanaged() if newer is None else sink.apply(newer))
        if orders := asyncio.all_tasks() - others:
            await asyncio.wait(orders)
        yield made, sink


@pytest.fixture(autouse=True)
def _large_lists_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(wanted: Rules) -> Placed:
        if wanted.policy.version == "large":
            threading.Event().wait(COPYING)
        return place(wanted)

    monkeypatch.setattr(module, "place", slowly)


async def test_rules_overtaken_while_their_lists_are_copied_do_not_replace_the_newer_ones() -> None:
    async with overtaken("large", denied=False, newer=rules("small", denied=True)) as (made, sink):
        assert sink.in_force is not None
        assert sink.in_force.version == "small"
        assert (await made.say()).startswith(b"521 ")


async def test_rules_overtaken_by_the_end_of_their_policy_do_not_come_into_force() -> None:
    async with overtaken("large", denied=True, newer=None) as (made, sink):
        assert sink.in_force is None
        assert (await made.say()).startswith(b"421 ")
