"""A pod's port on this machine, through the API server, with the user's own rights: what `kubectl port-forward` does.

Contract: the near end is a unix socket in a folder that only this user may enter, for whoever reaches it has the user's right. Each
connection to it is a WebSocket to the pod's `portforward` in the protocol `v4.channel.k8s.io` (kubelet's own; the Python client speaks
it too): binary messages whose first byte is the channel, 0 for data and 1 for errors; each channel begins with the port, two bytes. No
process a pod, as kubectl's would be, so that a hundred pods can be watched.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1  # channels of the first port
_PORT_BYTES = 2  # with which each channel begins
_CHUNK = 65536  # bytes read at once


class PortForward:
    """path: of the socket. problem: why the last connection was not made, or None."""

    def __init__(self, api: ClusterApi, namespace: str, pod: str, port: int, path: Path) -> None:
        self.path = path
        self.problem: ApiRefused | ApiUnavailable | NotForwarded | None = None
        self._api = api
        self._where = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._query = {"ports": str(port)}
        self._connections: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connected to the socket."""
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        """End what is open."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.problem = None
        try:
            async with self._api.web_socket(self._where, self._query, PROTOCOL) as web_socket:
                sending = asyncio.create_task(_send(reader, web_socket))
                try:
                    await self._receive(web_socket, writer)
                finally:
                    sending.cancel()
        except (ApiRefused, ApiUnavailable) as problem:
            self.problem = problem
        except (aiohttp.ClientError, OSError):
            pass  # either end is gone, and the other sees the end of its connection
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _receive(
        self, web_socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter
    ) -> None:
        still_of_the_port = {_DATA: _PORT_BYTES, _ERROR: _PORT_BYTES}
        async for message in web_socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            skipped = min(still_of_the_port.get(channel, 0), len(data))
            if skipped:
                still_of_the_port[channel] -= skipped
                data = data[skipped:]
            if channel == _ERROR and data:
                self.problem = NotForwarded(data.decode(errors="replace").strip())
                return
            if channel == _DATA and data:
                writer.write(data)
                await writer.drain()


class NotForwarded(Exception):
    """Kubelet has no connection to the pod's port; the text is its own."""


@asynccontextmanager
async def port_forward(api: ClusterApi, namespace: str, pod: str, port: int) -> AsyncIterator[PortForward]:
    """Connects only when somebody connects to its `path`."""
    with tempfile.TemporaryDirectory(prefix="postwarden-") as folder:  # mode 0700
        forward = PortForward(api, namespace, pod, port, Path(folder) / "admin")
        server = await asyncio.start_unix_server(forward.connected, forward.path)
        try:
            yield forward
        finally:
            server.close()
            await forward.close()
            await server.wait_closed()


async def _send(reader: asyncio.StreamReader, web_socket: aiohttp.ClientWebSocketResponse) -> None:
    """There is no half-closed connection in this protocol: our end ends all."""
    with suppress(aiohttp.ClientError, OSError):
        while data := await reader.read(_CHUNK):
            await web_socket.send_bytes(bytes([_DATA]) + data)
    await web_socket.close()
