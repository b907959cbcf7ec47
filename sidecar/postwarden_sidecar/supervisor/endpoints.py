"""HTTP: health for kubelet, metrics for Prometheus, questions on loopback (`admin`), and `drain` on a unix socket that only the sidecar's
own user may open.

Readiness waits neither for rules, nor for the operator, nor for the MTA: a native sidecar starts before its
MTA, and a cluster whose operator is away must start pods.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from postwarden_sidecar.supervisor.admin import one_sentence

_MAX_SOCKET_PATH = 107  # bytes: sun_path of unix(7) has 108 with the terminating zero


class EndpointFailed(Exception):
    """An endpoint can't be opened; the message says which and why, in one sentence."""


class Endpoints:
    """All HTTP of a sidecar. Open what is wanted, `close` once."""

    def __init__(
        self,
        *,
        ready: Callable[[], bool],
        upstream: Callable[[], Awaitable[bool]],
        metrics: Callable[[], bytes],
        metrics_type: str,
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        self._ready = ready
        self._upstream = upstream
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._drain = drain
        self._runners: list[web.AppRunner] = []

    async def open(self, health: tuple[str, int] | None, metrics: tuple[str, int] | None) -> None:
        """Serve /healthz, /readyz, /upstream and /metrics; one server where both addresses are the same.
        Raises EndpointFailed."""
        routes = {
            "health": [
                web.get("/healthz", self._serve_healthz),
                web.get("/readyz", self._serve_readyz),
                web.get("/upstream", self._serve_upstream),
            ],
            "metrics": [web.get("/metrics", self._serve_metrics)],
        }
        if health is not None and health == metrics:
            await self._open_tcp("health and metrics", health, routes["health"] + routes["metrics"])
            return
        for name, address in (("health", health), ("metrics", metrics)):
            if address is not None:
                await self._open_tcp(name, address, routes[name])

    async def open_questions(self, address: tuple[str, int] | None, routes: list[web.RouteDef]) -> None:
        """Serve what `admin` answers. Raises EndpointFailed."""
        if address is not None:
            await self._open_tcp("admin", address, routes, (one_sentence,))

    async def open_drain(self, path: Path) -> None:
        """Serve POST /drain on a unix socket. Raises EndpointFailed."""
        if len(bytes(path)) > _MAX_SOCKET_PATH:
            raise EndpointFailed(
                f"the state directory's path is too long for a unix socket ({_MAX_SOCKET_PATH} bytes): {path}"
            )
        runner = await self._runner([web.post("/drain", self._serve_drain)])
        try:
            await web.SockSite(runner, _unix_socket(path)).start()
        except OSError as error:
            raise EndpointFailed(f"cannot open the admin socket {path}: {error.strerror}") from error

    async def close(self) -> None:
        """Close all."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _open_tcp(
        self,
        name: str,
        address: tuple[str, int],
        routes: list[web.RouteDef],
        middlewares: tuple[Middleware, ...] = (),
    ) -> None:
        runner = await self._runner(routes, middlewares)
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            raise EndpointFailed(
                f"cannot serve {name} on {address[0]}:{address[1]}: {error.strerror}; choose another address"
            ) from error

    async def _runner(
        self, routes: list[web.RouteDef], middlewares: tuple[Middleware, ...] = ()
    ) -> web.AppRunner:
        application = web.Application(middlewares=middlewares)
        application.add_routes(routes)
        runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=1.0,
            handler_cancellation=bool(middlewares),  # a reader that went gives its place to others
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _serve_healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _serve_readyz(self, request: web.Request) -> web.Response:
        return _yes_or_no(self._ready(), "ready\n", "not ready\n")

    async def _serve_upstream(self, request: web.Request) -> web.Response:
        return _yes_or_no(await self._upstream(), "the MTA answers\n", "the MTA does not answer as it must\n")

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": self._metrics_type})

    async def _serve_drain(self, request: web.Request) -> web.Response:
        await self._drain()
        return web.Response(text="drained\n")


def _yes_or_no(good: bool, yes: str, no: str) -> web.Response:
    return web.Response(text=yes) if good else web.Response(status=503, text=no)


def _unix_socket(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of a process that was killed; the directory is ours alone
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(bytes(path))
        path.chmod(0o600)  # nobody connects before it listens
    except OSError:
        bound.close()
        raise
    return bound
