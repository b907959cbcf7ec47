"""kopf, kept to what we use of it: it watches policies and ConfigMaps and tells of each event (pods: see `kube.follower`).

Contract: `on.event` handlers only, which return nothing: kopf then writes nothing into the objects and adds
no finalizers. ConfigMaps are selected by label on the server. Standalone: no peering, every replica
watches. CRDs are not watched, which would need a right of its own: kopf looks once for the resources, when it starts.

It runs in a thread of its own, with its own event loop. For kopf ends as a whole where one of its watches meets
an error that it does not retry (a CRD that was removed, an error in the stream), and at its end it cancels every task of
its loop: in ours these would be the streams of the sidecars. Here it is simply begun anew. It also keeps its hands off the
process's signals that way.
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import kopf

from postwarden_operator.kube.objects import WATCH_LABEL
from postwarden_operator.kube.store import Kind

OnEvent = Callable[[Kind, Mapping[str, Any], bool], None]
"""kind, object, deleted."""

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to the API server; kopf's own default is five minutes."""

REQUEST_TIMEOUT = 60.0
"""Seconds for a list: kopf asks for all objects at once."""

END_TIMEOUT = 3.0
"""Seconds for kopf to end with us; it takes milliseconds, unless it waits for an answer."""

IDLE = 0.1
"""Seconds that kopf keeps what it needs for the next event of an object: of 1,000 policies it would keep all of it for 5 s at the start."""

_log = logging.getLogger(__name__)


class Watch:
    """on_event is called in the event loop that `run` runs in."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._anew = asyncio.Event()

    def begin_anew(self) -> None:
        """Give up the watch there is, and list and watch from the beginning."""
        self._anew.set()

    async def run(self) -> None:
        """Until kopf gives up, which is logged, or until `begin_anew`; cancel it to end."""
        self._anew.clear()
        loop = asyncio.get_running_loop()
        stop, ended = threading.Event(), asyncio.Event()

        def tell(kind: Kind, body: Mapping[str, Any], deleted: bool) -> None:
            if not stop.is_set():
                self._on_event(kind, body, deleted)

        def hand_over(kind: Kind, body: Mapping[str, Any], deleted: bool) -> None:
            loop.call_soon_threadsafe(tell, kind, body, deleted)

        def run_kopf() -> None:
            try:
                asyncio.run(_kopf(hand_over, stop))
            except Exception as error:
                _log.error("the watch of the cluster ended: %s: %s", type(error).__name__, error)
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(ended.set)

        # A daemon: a kopf that hangs must hold up neither a new one nor the end of the process.
        threading.Thread(target=run_kopf, name="kopf", daemon=True).start()
        anew = asyncio.create_task(self._anew.wait())
        over = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait((anew, over), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait((over,), timeout=END_TIMEOUT)
            raise
        finally:
            stop.set()
            anew.cancel()
            over.cancel()


async def _kopf(on_event: OnEvent, stop: threading.Event) -> None:
    try:
        await kopf.operator(
            registry=_registry(on_event),
            settings=_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=stop,
        )
    finally:
        stop.set()  # a thread of asyncio's waits for it


def _registry(on_event: OnEvent) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="login")(_login)
    kopf.on.event("postwarden.dev", "v1alpha1", Kind.POLICY.value, registry=registry, id="policy")(
        _handler(Kind.POLICY, on_event)
    )
    kopf.on.event("", "v1", Kind.CONFIG_MAP.value, registry=registry, id="list")(
        _handler(Kind.CONFIG_MAP, on_event)
    )
    return registry


def _handler(kind: Kind, on_event: OnEvent) -> Callable[..., Awaitable[None]]:
    async def heard(event: Mapping[str, Any], **_: object) -> None:
        on_event(kind, event["object"], event["type"] == "DELETED")

    return heard


async def _login(**known: Any) -> kopf.ConnectionInfo | None:
    """In a pod its ServiceAccount, else the kubeconfig: in the order of `ClusterApi`."""
    return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


class _Backoffs:
    """Seconds between attempts, without an end: after its own nine kopf would give up the whole watch."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0, 2.0), itertools.repeat(5.0))


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.queueing.idle_timeout = IDLE
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    # kopf would kill the process some minutes after an end that it takes for stuck.
    settings.process.ultimate_exiting_timeout = None
    settings.watching.label_selectors["", "v1", Kind.CONFIG_MAP.value] = WATCH_LABEL
    return settings
