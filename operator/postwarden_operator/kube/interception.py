"""Looks at the Services of the namespaces that have policies, for the condition Intercepted.

Contract: only the leader looks, every five minutes and when a namespace gets its first policy. What can't be listed now stays as it was
known, and is said once. `of` costs no request: it judges with the pods and policies of that moment.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.objects import service_of
from postwarden_operator.kube.store import Store
from postwarden_operator.policy.model import DEFAULT_UPSTREAM_PORT
from postwarden_operator.reconcile.interception import Interception, Screened, Service, interception
from postwarden_operator.reconcile.plan import Outcome

LOOK = 300.0
"""Seconds between two looks (design)."""

TICK = 2.0
"""Seconds between two questions of whether this replica leads, and of what there is to look at."""

_log = logging.getLogger(__name__)


class ServiceWatch:
    """changed: called when Services are not as they were, or are known for the first time."""

    def __init__(
        self, api: ClusterApi, store: Store, leading: Callable[[], bool], changed: Callable[[], None]
    ) -> None:
        self._api, self._store = api, store
        self._leading, self._changed = leading, changed
        self._services: dict[str, tuple[Service, ...]] = {}
        """By namespace, as last listed."""
        self._due: dict[str, float] = {}
        self._said = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._leading():
                await self.look({policy.document["metadata"]["namespace"] for policy in self._store.policies})
            await asyncio.sleep(TICK)

    async def look(self, namespaces: Iterable[str]) -> None:
        """List what is due."""
        namespaces, now = set(namespaces), asyncio.get_running_loop().time()
        for known in (self._services, self._due):
            for gone in known.keys() - namespaces:
                del known[gone]
        before = dict(self._services)
        for namespace in sorted(namespaces):
            if now >= self._due.get(namespace, 0.0):
                # In any case: one that is refused is not to be asked for every two seconds.
                self._due[namespace] = now + LOOK
                await self._list(namespace)
        if self._services != before:
            self._changed()

    async def _list(self, namespace: str) -> None:
        try:
            listing = await self._api.list_all(f"/api/v1/namespaces/{namespace}/services")
            self._services[namespace] = tuple(map(service_of, listing.items))
            self._said = ""
        except (ApiUnavailable, ApiRefused) as error:
            if isinstance(error, ApiUnavailable):
                self._due[namespace] = 0.0
            if str(error) != self._said:
                self._said = str(error)
                _log.error("Services can't be listed, what is known of interception stays: %s", error)

    def of(self, outcome: Outcome) -> Interception | None:
        """None: its Services are not known yet."""
        services = self._services.get(outcome.namespace)
        if services is None:
            return None
        pods = map(self._store.pod, outcome.screened)
        screened = [
            Screened(pod.labels, pod.exposure) for pod in pods if pod is not None and pod.exposure is not None
        ]
        spec = (self._store.policy(outcome.uid) or {}).get("spec")
        port, believes = _settings(spec if isinstance(spec, Mapping) else {})
        return interception(screened, outcome.bare, services, upstream_port=port, believes_proxy=believes)


def _settings(spec: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The MTA's port by the policy, and whether it names load balancers. The document may be invalid."""
    upstream, listener = spec.get("upstream"), spec.get("listener")
    port = None
    if isinstance(upstream, Mapping) and not upstream.get("socket"):
        port = upstream.get("port", DEFAULT_UPSTREAM_PORT)
    proxy = listener.get("proxyProtocol") if isinstance(listener, Mapping) else None
    return (
        port if isinstance(port, int) else None,
        isinstance(proxy, Mapping) and bool(proxy.get("trusted")),
    )
