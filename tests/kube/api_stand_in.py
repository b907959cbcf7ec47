"""An API server of a few paths on loopback.

What it answers, a test says. The real one is in the end-to-end tests.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client
from postwarden_operator.kube.api import ClusterApi


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any


Answer = Callable[[Request], tuple[int, Any]]
"""HTTP's status, and what becomes JSON; a text is sent as it is."""


@dataclass
class ApiStandIn:
    """api: a client of it. requests: all that came."""

    api: ClusterApi
    answer: Answer
    requests: list[Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        heard = Request(request.method, request.path, dict(request.query), body)
        self.requests.append(heard)
        status, answer = self.answer(heard)
        if isinstance(answer, str):
            return web.Response(text=answer, status=status)
        return web.json_response(answer, status=status)


@asynccontextmanager
async def api_stand_in(answer: Answer) -> AsyncIterator[ApiStandIn]:
    app = web.Application()
    runner = web.AppRunner(app)
    stand_in = ApiStandIn(
        ClusterApi(client.ApiClient(client.Configuration(host="http://127.0.0.1:1"))), answer
    )
    app.router.add_route("*", "/{path:.*}", stand_in.handle)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stand_in.api = ClusterApi(client.ApiClient(client.Configuration(host=f"http://{host}:{port}")))
    try:
        yield stand_in
    finally:
        await stand_in.api.close()
        await runner.cleanup()
