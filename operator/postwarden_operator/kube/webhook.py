"""Serves the mutating webhook: `POST /inject` over TLS, in every replica.

Contract: what is asked needs no other service: an API server that is away, a watch that begins anew, a replica that does not lead serve it
all the same. A fault of ours is an HTTP error: the webhook configuration's failurePolicy then decides about the pod.

Why not kopf's own webhook server: it comes and goes with kopf's watch, which here runs in a thread that ends and begins anew whenever one
of its streams meets an error (see `kube.watch`), it serves only once kopf has found its resources, and it reads its certificate once.
Pods would start unscreened meanwhile. What is kopf's is the patch (`kube.admission`).
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable

from aiohttp import web

from postwarden_operator.inject import InjectionSettings
from postwarden_operator.kube.admission import BadReview, review

PATH = "/inject"

LARGEST_REVIEW = 8 * 1024 * 1024
"""Bytes: a pod is at most 1.5 MiB in etcd, and the API server sends it as JSON."""

SHUTDOWN = 1.0
"""Seconds for reviews that are being answered when the operator ends; one takes milliseconds."""

_log = logging.getLogger(__name__)


class WebhookUnavailable(Exception):
    """The address can't be listened on; the text says which and why."""


class Webhook:
    """settings: asked for each pod, for the CA in them changes."""

    def __init__(self, settings: Callable[[], InjectionSettings]) -> None:
        self._settings = settings
        app = web.Application(client_max_size=LARGEST_REVIEW)
        app.router.add_post(PATH, self._inject)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)
        self.port = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Raises WebhookUnavailable."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        except OSError as error:
            await self._runner.cleanup()
            raise WebhookUnavailable(
                f"can't listen on {host}:{port} for the webhook: {error.strerror}"
            ) from error
        self.port = int(self._runner.addresses[0][1])
        _log.info("the webhook is served at port %d", self.port)

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            answer = review(json.loads(await request.read()), self._settings())
        except BadReview as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise web.HTTPBadRequest(text="the body is no JSON\n") from error
        except (asyncio.CancelledError, web.HTTPException):
            raise
        except Exception as error:
            _log.exception("a pod could not be looked at; the webhook's failurePolicy decides")
            raise web.HTTPInternalServerError(text="see the operator's log\n") from error
        response = answer["response"]
        if not response["allowed"]:
            _log.warning("%s", response["status"]["message"])
        for warning in response.get("warnings", ()):
            _log.warning("%s", warning)
        return web.json_response(answer)
