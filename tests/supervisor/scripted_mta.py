"""A small MTA that answers as it is told, on real sockets, and remembers what it heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from postwarden_sidecar.handoff.proxy_header import SIGNATURE_V2

GREETING = b"220 mx.example.org ESMTP ready\r\n"
EHLO = b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-AUTH PLAIN\r\n250 DSN\r\n"


class ScriptedMta:
    """header: what a client must send first: "", "v1" or "v2". Attributes may be changed while it runs."""

    def __init__(self, *, header: str = "", relays: bool = False) -> None:
        self.header = header
        self.relays = relays
        self.silent = False
        self.greeting = GREETING
        self.headers: list[bytes] = []
        self.commands: list[bytes] = []
        self.sessions = 0
        self.port = 0
        self.bodies: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._session, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen_unix(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._session, path)

    async def listen_pass(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._passed, path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The stream reader would lose the descriptor: take the socket away from it before it reads.
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a selector transport has it
        sock = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(sock, readable.set_result, None)
        await readable
        loop.remove_reader(sock)
        _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        attributes = await loop.sock_recv(sock, 4096)
        self.headers.append(attributes)
        session = socket.socket(fileno=descriptors[0])
        await self._session(*await asyncio.open_connection(sock=session))
        sock.close()
        writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.sessions += 1
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await reader.read()
            return
        if self.header == "v1":
            header = await reader.readline()
            if not header.startswith(b"PROXY TCP"):
                return
            self.headers.append(header)
        elif self.header == "v2":
            start = await reader.readexactly(16)
            if not start.startswith(SIGNATURE_V2):
                return
            self.headers.append(start + await reader.readexactly(int.from_bytes(start[14:16], "big")))
        writer.write(self.greeting)
        while line := await reader.readline():
            self.commands.append(line)
            writer.write(self._reply(line.upper()))
            if line.upper().startswith(b"DATA"):
                self.bodies.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 2.0.0 queued\r\n")
            if line.upper().startswith(b"QUIT"):
                return

    def _reply(self, line: bytes) -> bytes:
        match line.split(b" ")[0].strip():
            case b"EHLO":
                return EHLO
            case b"MAIL" | b"RSET" | b"NOOP":
                return b"250 2.0.0 ok\r\n"
            case b"RCPT":
                if b"@EXAMPLE.ORG" in line or self.relays:
                    return b"250 2.1.5 ok\r\n"
                return b"554 5.7.1 Relay access denied\r\n"
            case b"DATA":
                return b"354 go on\r\n"
            case b"QUIT":
                return b"221 2.0.0 bye\r\n"
            case _:
                return b"500 5.5.2 what?\r\n"


@contextlib.asynccontextmanager
async def scripted_mta(**how: object) -> AsyncIterator[ScriptedMta]:
    mta = ScriptedMta(**how)  # type: ignore[arg-type]  # its keyword arguments
    await mta.listen()
    try:
        yield mta
    finally:
        await mta.close()
