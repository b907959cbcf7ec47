"""Real workers on one port, steered as the supervisor does it, for tests of several of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence

from postwarden_sidecar.engine.alike import all_whole
from postwarden_sidecar.engine.record import Record, Recorded, Verdict
from postwarden_sidecar.ipc.messages import UpstreamInForce
from postwarden_sidecar.ipc.page import CELLS, Page, connections
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.net.steering import Steering
from postwarden_sidecar.rules.image import encode
from postwarden_sidecar.rules.settings import Rules
from postwarden_sidecar.supervisor.closing import close_when_empty
from postwarden_sidecar.supervisor.memory_file import memory_file
from postwarden_sidecar.supervisor.workers import Workers


class Pool:
    """records, stress: what the workers reported. steering_problems: whether the kernel took each new one, "" if it did."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.steering = Steering(count)
        self.page = Page.create()
        self.listeners = listen("127.0.0.1", 0, count, attach=lambda group: self.steering.attach(group[0]))
        assert len(self.listeners) == count
        self.address: tuple[str, int] = self.listeners[0].getsockname()
        self.records: list[Record] = []
        self.stress: list[tuple[bool, int]] = []
        self.steering_problems: list[str] = []
        self.workers = Workers(
            self.listeners,
            self.page,
            on_records=self._recorded,
            on_pass=lambda worker, message: None,
            on_fault=lambda fault: None,
            on_stress=lambda on, connections: self.stress.append((on, connections)),
            on_steering=self.steering_problems.append,
        )

    def _recorded(self, records: Sequence[Recorded]) -> None:
        self.records += all_whole(records)

    def dropped(self) -> list[int]:
        """By each worker, since the pool began."""
        found = []
        for index in range(self.count):
            cells = self.page.slot(index)
            found.append(cells[CELLS[connections(Verdict.DROPPED)]])
            cells.release()
        return found

    async def say(self, *parts: bytes, source: str = "127.0.0.1") -> bytes:
        """All that the sidecar answers."""
        reader, writer = await asyncio.open_connection(*self.address, local_addr=(source, 0))
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            said = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return said


@contextlib.asynccontextmanager
async def pool(count: int, rules: Rules, target: str = "") -> AsyncIterator[Pool]:
    """target: the MTA's, taken as proved; "": none."""
    made = Pool(count)
    made.workers.start()
    made.workers.set_upstream(
        UpstreamInForce(target, "Plain", bool(target), "none", "mx.example ESMTP", ("SIZE",))
    )
    try:
        await made.workers.set_rules(memory_file([encode(rules)]))
        await made.workers.wait_accepting()
        yield made
    finally:
        await made.workers.stop()
        close_when_empty(made.listeners)
        made.page.close()
        os.close(made.page.descriptor)
