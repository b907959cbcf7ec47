"""A sidecar with real workers, for tests, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.supervisor.settings import SidecarSettings, UpstreamChoice
from postwarden_sidecar.supervisor.supervisor import Supervisor


def plain(port: int) -> UpstreamChoice:
    return UpstreamChoice(f"127.0.0.1:{port}", Handoff.PLAIN)


class Sidecar:
    """A running Supervisor, what it recorded and logged."""

    def __init__(self, settings: SidecarSettings) -> None:
        self.records: list[Record] = []
        self.log = io.BytesIO()
        self.supervisor = Supervisor(settings, log_stream=self.log, on_records=self.records.extend)

    @property
    def port(self) -> int:
        return self.supervisor.listen_address[1]

    async def client(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))


class Client:
    """An SMTP client that says what a test tells it. Every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """The next reply, its lines joined; "" at the end."""
        lines = []
        async with asyncio.timeout(20):
            while line := (await self.reader.readline()).decode():
                lines.append(line.rstrip("\r\n"))
                if line[3:4] != "-":
                    break
        return "\n".join(lines)

    async def ask(self, command: str) -> str:
        self.writer.write(command.encode() + b"\r\n")
        return await self.reply()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def sidecar(*, ready: bool = True, **how: object) -> AsyncIterator[Sidecar]:
    """how: of SidecarSettings. ready: wait until it is."""
    running = Sidecar(SidecarSettings(**({"listen": ("127.0.0.1", 0)} | how)))  # type: ignore[arg-type]
    await running.supervisor.start()
    try:
        if ready:
            async with asyncio.timeout(20):
                await running.supervisor.wait_ready()
        yield running
    finally:
        await running.supervisor.stop()


@contextlib.asynccontextmanager
async def visit(to: Sidecar) -> AsyncIterator[Client]:
    client = await to.client()
    try:
        yield client
    finally:
        await client.close()
