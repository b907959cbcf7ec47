"""What kubelet's probes ask: `/healthz` (liveness) and `/readyz` (readiness), over plain HTTP.

Contract: `/healthz` is 200 while a restart would not help: a stuck event loop answers nothing at all, and a watch that stays silent
however often it begins anew is 503. An API server that is away is no reason: sidecars are served from memory, and a new
process would have nothing to serve. `/readyz` is 200 once all policies were compiled for the first time, and then for good.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web


class HealthUnavailable(Exception):
    """The address can't be listened on; the text says which and why."""


class Health:
    """alive, ready: asked at every probe; None, or why not."""

    def __init__(self, alive: Callable[[], str | None], ready: Callable[[], str | None]) -> None:
        app = web.Application()
        app.router.add_get("/healthz", _answer(alive))
        app.router.add_get("/readyz", _answer(ready))
        self._runner = web.AppRunner(app, access_log=None)
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Raises HealthUnavailable."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise HealthUnavailable(f"can't listen on {host}:{port} for probes: {error.strerror}") from error
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()


def _answer(question: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        problem = question()
        return web.Response(text=f"{problem or 'ok'}\n", status=200 if problem is None else 503)

    return answer
