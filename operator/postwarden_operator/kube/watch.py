"""kopf, kept to what we use of it: it watches policies, pods and ConfigMaps and tells of each event.

Contract: `on.event` handlers only, which return nothing: kopf then writes nothing into the objects and adds
no finalizers. Pods and ConfigMaps are selected by label on the server. Standalone: no peering, every replica
watches. CRDs are not watched, which would need a right of its own: ours must be there at the start.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf

from postwarden_operator.kube.objects import INJECT_LABEL, WATCH_LABEL
from postwarden_operator.kube.store import Kind

OnEvent = Callable[[Kind, Mapping[str, Any], bool], None]
"""kind, object, deleted."""


class Watch:
    """on_event.

    Called in the event loop. liveness: kopf's own endpoint, `http://HOST:PORT/PATH`; None: none.
    """

    def __init__(self, on_event: OnEvent, liveness: str | None = None) -> None:
        self._on_event = on_event
        self._liveness = liveness

    async def start(self) -> asyncio.Task[None]:
        """Cancel the task to stop it; it ends by itself where kopf gives up.

        kopf takes SIGTERM and SIGINT for itself here: take them back afterwards.
        """
        ignored = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=_settings(),
            standalone=True,
            clusterwide=True,
            liveness_endpoint=self._liveness,
        )
        # kopf cancels at its end every task that was not there at its start, hence ours are started before
        # it.
        return asyncio.create_task(kopf.run_tasks(tasks, ignored=ignored))

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login")(_login)
        kopf.on.event("postwarden.dev", "v1alpha1", Kind.POLICY.value, registry=registry, id="policy")(
            self._handler(Kind.POLICY)
        )
        kopf.on.event("", "v1", Kind.POD.value, registry=registry, id="pod")(self._handler(Kind.POD))
        kopf.on.event("", "v1", Kind.CONFIG_MAP.value, registry=registry, id="list")(
            self._handler(Kind.CONFIG_MAP)
        )
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Awaitable[None]]:
        async def heard(event: Mapping[str, Any], **_: object) -> None:
            self._on_event(kind, event["object"], event["type"] == "DELETED")

        return heard


async def _login(**known: Any) -> kopf.ConnectionInfo | None:
    """In a pod its ServiceAccount, else the kubeconfig: in the order of `ClusterApi`."""
    return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.label_selectors["", "v1", Kind.POD.value] = INJECT_LABEL
    settings.watching.label_selectors["", "v1", Kind.CONFIG_MAP.value] = WATCH_LABEL
    return settings
