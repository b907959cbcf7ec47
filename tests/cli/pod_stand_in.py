"""A namespace of pods whose ports are forwarded to this machine's: the API server's and kubelet's side of `portforward`.

There is no kubelet in a test of one process; the protocol is that of kubelet's own server (`v4.channel.k8s.io`: a channel's number before
each message, the port as the first two bytes of a channel). The real one is in the end-to-end tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

PROTOCOL = "v4.channel.k8s.io"


def pod(
    name: str, *, container: str = "postwarden-sidecar", phase: str = "Running", **labels: str
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "mail", "uid": f"uid-{name}", "labels": labels},
        "spec": {"containers": [{"name": "mta"}], "initContainers": [{"name": container}]},
        "status": {"phase": phase},
    }


@dataclass
class PodStandIn:
    """pods: by name. ports: where a pod's forwarded port really is. refusal: the status that every port-forward gets."""

    kubeconfig: Path
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    refusal: int | None = None
    forwards: int = 0

    def add(self, body: dict[str, Any], port: int | None = None) -> None:
        self.pods[body["metadata"]["name"]] = body
        if port is not None:
            self.ports[body["metadata"]["name"]] = port

    async def list_pods(self, request: web.Request) -> web.Response:
        wanted = dict(each.split("=") for each in request.query.get("labelSelector", "").split(",") if each)
        items = [body for body in self.pods.values() if wanted.items() <= body["metadata"]["labels"].items()]
        return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})

    async def get_pod(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.pods:
            return web.json_response({"message": f'pods "{name}" not found'}, status=404)
        return web.json_response(self.pods[name])

    async def get_object(self, request: web.Request) -> web.Response:
        if request.path not in self.objects:
            return web.json_response({"message": "not found"}, status=404)
        return web.json_response(self.objects[request.path])

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        if self.refusal is not None:
            return web.json_response({"message": "no"}, status=self.refusal)
        port = int(request.query["ports"])
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        self.forwards += 1
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.ports[request.match_info["name"]]
            )
        except (OSError, KeyError):
            said = f"error forwarding port {port}: dial tcp4 127.0.0.1:{port}: connect: connection refused"
            await socket.send_bytes(b"\x01" + said.encode())
            await socket.close()
            return socket

        async def answers() -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(1000):
                    await socket.send_bytes(b"\0" + data)
            await socket.close()

        answering = asyncio.create_task(answers())
        async for message in socket:
            assert message.data[0] == 0
            writer.write(message.data[1:])
        answering.cancel()
        writer.close()
        return socket


@asynccontextmanager
async def namespace_of_pods(folder: Path) -> AsyncIterator[PodStandIn]:
    """Namespace `mail`, the default one of its kubeconfig."""
    stand_in = PodStandIn(folder / "kubeconfig")
    application = web.Application()
    application.add_routes(
        [
            web.get("/api/v1/namespaces/mail/pods", stand_in.list_pods),
            web.get("/api/v1/namespaces/mail/pods/{name}", stand_in.get_pod),
            web.get("/api/v1/namespaces/mail/pods/{name}/portforward", stand_in.port_forward),
            web.get("/{path:.*}", stand_in.get_object),
        ]
    )
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "mail"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    stand_in.kubeconfig.write_text(yaml.safe_dump(document))
    try:
        yield stand_in
    finally:
        await runner.cleanup()
