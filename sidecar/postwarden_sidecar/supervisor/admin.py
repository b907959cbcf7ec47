"""Questions to a running sidecar, answered on loopback as JSON lines: what happens now (/tail), what becomes of an address (/explain), and
what is in force (/rules).

Contract: read-only. Who may enter the pod (or port-forward to it) may ask: that right is the authorisation, so nothing but loopback is
listened on, and a web page that was led here by a name of its own is refused. No key of a Secret is in any answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from postwarden_sidecar.net.addresses import is_loopback
from postwarden_sidecar.supervisor.tail import BadQuery, Filter, Reader, Tail, TooManyReaders, control_line

HEARTBEAT = 10.0  # seconds of silence after which a reader is told that all is well, so that a dead connection is noticed
WRITE_TIMEOUT = 60.0  # seconds that a reader may take nothing at all; then its place is another's
JSON_LINES = "application/x-ndjson"

Answer = Callable[[], Awaitable[dict[str, Any]]]
Explain = Callable[[str], Awaitable[dict[str, Any]]]


def routes(tail: Tail, rules: Answer, explain: Explain) -> list[web.RouteDef]:
    """What the endpoint serves. explain: raises BadQuery."""

    async def serve_tail(request: web.Request) -> web.StreamResponse:
        query = {name: request.query.getall(name) for name in request.query}
        reader = tail.open(Filter.of(query))
        try:
            response = web.StreamResponse(headers={"Content-Type": JSON_LINES, "Cache-Control": "no-store"})
            await response.prepare(request)
            await _follow(reader, response)
        finally:
            tail.close(reader)
        return response

    async def serve_rules(request: web.Request) -> web.Response:
        return _one_line(await rules())

    async def serve_explain(request: web.Request) -> web.Response:
        address = request.query.get("address")
        if address is None:
            raise BadQuery("which address? Ask /explain?address=192.0.2.1")
        return _one_line(await explain(address))

    return [
        web.get("/tail", serve_tail, allow_head=False),
        web.get("/rules", serve_rules, allow_head=False),
        web.get("/explain", serve_explain, allow_head=False),
    ]


@web.middleware
async def one_sentence(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What can't be answered is JSON, too: `error` says why."""
    if not is_loopback(request.url.host or ""):
        return _one_line({"error": "this endpoint answers to the name localhost only"}, 403)
    try:
        return await handler(request)
    except BadQuery as error:
        return _one_line({"error": str(error)}, 400)
    except TooManyReaders as error:
        return _one_line({"error": str(error)}, 503)
    except web.HTTPNotFound:
        return _one_line({"error": "there are /tail, /explain and /rules"}, 404)
    except web.HTTPMethodNotAllowed:
        return _one_line({"error": "this endpoint is read-only: GET"}, 405)


async def _follow(reader: Reader, response: web.StreamResponse) -> None:
    """Until the reader is gone, or the sidecar stops."""
    await response.write(control_line("begins") + b"\n")
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                lines = await reader.next_lines()
        except TimeoutError:
            lines = control_line("alive") + b"\n"
        if not lines:
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.write(lines)
        except (TimeoutError, ConnectionError):
            return
        await asyncio.sleep(0)  # write does not wait while the kernel takes all


def _one_line(document: dict[str, Any], status: int = 200) -> web.Response:
    body = msgspec.json.encode(document) + b"\n"
    return web.Response(
        status=status, body=body, content_type=JSON_LINES, headers={"Cache-Control": "no-store"}
    )
