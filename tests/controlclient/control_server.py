"""A control plane that does as a test tells it: grpc.aio on a unix socket, one test in command of each
stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc
from postwarden_sidecar.controlclient.target import ControlTarget

TOKEN = "one-off"


class ServedStream:
    """A stream of a sidecar. Put messages into `send` (None ends it), take what came from `received`."""

    def __init__(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.send: asyncio.Queue[pb.ControlMessage | None] = asyncio.Queue()
        self.received: asyncio.Queue[pb.SidecarMessage] = asyncio.Queue()
        self.ended = asyncio.Event()

    def snapshot(self, message: pb.Snapshot) -> None:
        self.send.put_nowait(pb.ControlMessage(snapshot=message))

    async def next(self, kind: str) -> Any:
        """The next message of that kind; others before it are passed over."""
        async with asyncio.timeout(20):
            while True:
                message = await self.received.get()
                if message.WhichOneof("message") == kind:
                    return getattr(message, kind)


class ControlServer(pb_grpc.ScreeningControlServicer):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: asyncio.Queue[ServedStream] = asyncio.Queue()
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.tokens: list[str] = []
        self.unavailable = False
        self._server: grpc.aio.Server | None = None

    @property
    def target(self) -> ControlTarget:
        return ControlTarget(address=f"unix:{self.path}", token=TOKEN)

    async def stream(self) -> ServedStream:
        """The next stream that a sidecar opens."""
        async with asyncio.timeout(20):
            return await self.streams.get()

    async def start(self) -> None:
        self._server = grpc.aio.server()
        pb_grpc.add_ScreeningControlServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ControlMessage]:
        metadata = dict(context.invocation_metadata())
        self.tokens.append(metadata["authorization"])
        if self.unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        await context.send_initial_metadata((("postwarden-admitted", "true"),))
        first = await anext(aiter(request_iterator))
        stream = ServedStream(first.hello)
        self.streams.put_nowait(stream)
        reading = asyncio.create_task(self._read(stream, request_iterator))
        try:
            while (message := await stream.send.get()) is not None:
                yield message
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            stream.ended.set()

    async def _read(self, stream: ServedStream, messages: Any) -> None:
        async for message in messages:
            stream.received.put_nowait(message)

    async def FetchBlob(self, request: pb.BlobRequest, context: Any) -> AsyncIterator[pb.BlobChunk]:
        if request.hash not in self.blobs:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no such blob")
        self.fetched.append(request.hash)
        content = self.blobs[request.hash]
        for start in range(0, len(content), 65536):
            yield pb.BlobChunk(data=content[start : start + 65536])


@contextlib.asynccontextmanager
async def control_server(directory: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(directory / "control.sock")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
