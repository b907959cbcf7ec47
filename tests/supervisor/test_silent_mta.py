"""`up` says that it is ready within the time for a first proof, though the MTA accepts and says nothing."""

from __future__ import annotations

import asyncio

import pytest
from postwarden_sidecar.supervisor import supervisor
from supervisor.sidecars import plain, sidecar


async def test_it_is_ready_while_the_mta_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PROOF", 0.2)
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    mta = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with mta, sidecar(ready=False, flags=plain(mta.sockets[0].getsockname()[1])) as running:
        try:
            async with asyncio.timeout(20):
                await running.supervisor.wait_ready()
            assert running.supervisor.ready
            assert running.supervisor.proof is None, "there is no result yet"
        finally:
            over.set()
