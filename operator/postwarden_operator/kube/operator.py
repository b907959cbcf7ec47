"""The operator in a cluster: watch, reconcile, serve the sidecars, write status.

Contract: `run` serves until `stop` is called or a part of it gives up, which raises; a pod's restart is then
the remedy. Each kind is listed at the start and every RESYNC seconds: the first lists are what allows to say
that no policy matches a pod, the later ones notice what a watch that began anew did not tell of.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.server import ScreeningServer
from postwarden_operator.controlplane.tls import Certificate, CertificateFiles, CertificateInMemory
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.authenticator import TokenReviewer
from postwarden_operator.kube.authority_keeper import AuthorityKeeper, OwnAuthority
from postwarden_operator.kube.objects import INJECT_LABEL, WATCH_LABEL
from postwarden_operator.kube.references import References, Unwatched
from postwarden_operator.kube.replicas import Replicas, ReplicaSettings
from postwarden_operator.kube.secrets import Secrets
from postwarden_operator.kube.store import Kind, Store
from postwarden_operator.kube.watch import Watch
from postwarden_operator.reconcile.loop import Reconciler
from postwarden_operator.reconcile.world import World

RESYNC = 300.0
"""Seconds between two complete lists: a few pages each."""

RETRY = 1.0
"""Seconds until a list that failed is asked for again."""

SECRETS_TICK = 5.0
"""Seconds between two looks at which Secrets are to be asked for again."""

TRUST_TICK = 5.0
"""Seconds between two looks at the CA's file: kubelet needs a minute to write a changed Secret into a volume."""

_GROUP = "/apis/postwarden.dev/v1alpha1"

_LISTS = {
    Kind.POLICY: (f"{_GROUP}/{Kind.POLICY.value}", ""),
    Kind.POD: ("/api/v1/pods", INJECT_LABEL),
    Kind.CONFIG_MAP: ("/api/v1/configmaps", WATCH_LABEL),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """listen: HOST:PORT of the control plane. identity: where its certificate comes from. liveness: `http://HOST:PORT/PATH` for
    kubelet's probe.

    replicas: how this one and others share the work; None: there are no others.
    """

    listen: str
    identity: CertificateFiles | OwnAuthority
    liveness: str | None = None
    replicas: ReplicaSettings | None = None


class KubeOperator:
    """Made and run in one event loop."""

    def __init__(self, settings: OperatorSettings, api: ClusterApi) -> None:
        self._settings = settings
        self._api = api
        self._store = Store()
        self._replicas = Replicas(
            api,
            _trusting(settings.replicas, self._trusted),
            lambda: self._registry,
            self._store.policy_status,
        )
        self._registry = Registry(self._replicas.sink)
        self._reconciler = Reconciler(self._read, self._registry, self._replicas.publish)
        self._references = References()
        self._unwatched = Unwatched(api, self._references)
        self._secrets = Secrets(api, self._references)
        self._server = ScreeningServer(self._registry, TokenReviewer(api, self._store.pod))
        if self._replicas.servicer is not None:
            self._server.serve_peers(self._replicas.servicer)
        self._watch = Watch(self._heard, settings.liveness)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self, *, on_watching: Callable[[], None]) -> None:
        """on_watching: called once kopf runs, which takes SIGTERM and SIGINT for itself.

        Raises ListenFailed, AuthorityUnusable; or what made a part of it end.
        """
        stopping = asyncio.create_task(self._stop.wait())
        preparing = asyncio.create_task(self._prepare())
        await asyncio.wait((stopping, preparing), return_when=asyncio.FIRST_COMPLETED)
        if not preparing.done():
            preparing.cancel()
            return
        certificate, follow_trust = preparing.result()
        port = self._server.listen_tls(self._settings.listen, certificate)
        await self._server.start()
        _log.info("serving sidecars on %s (port %d)", self._settings.listen, port)
        parts = [
            asyncio.create_task(part)
            for part in (
                self._reconciler.run(),
                *self._replicas.parts(),
                self._list(),
                self._follow_secrets(),
                follow_trust(),
                self._watch_cluster(on_watching),
            )
        ]
        try:
            await asyncio.wait((*parts, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._replicas.stop()
            await self._server.stop()
            for task in (*parts, stopping):
                task.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
        if not self._stop.is_set():
            faults = [each for each in ended if isinstance(each, Exception)]
            raise faults[0] if faults else RuntimeError("the watch of the cluster ended")

    async def _prepare(self) -> tuple[Certificate, Callable[[], Coroutine[None, None, None]]]:
        """What the server shows, and what then keeps it and the trust bundle as they are to be."""
        identity = self._settings.identity
        if isinstance(identity, OwnAuthority):
            certificate = CertificateInMemory()
            keeper = AuthorityKeeper(self._api, identity, certificate, self._registry.set_trust)
            await keeper.begin()
            return certificate, keeper.run
        if (bundle := identity.trust_bundle()) is not None:
            self._registry.set_trust(bundle)
        return identity, lambda: self._follow_trust(identity)

    def _trusted(self) -> bytes:
        """PEM of who signs the replicas' certificates. Raises ValueError."""
        if (bundle := self._registry.trust_bundle) is None:
            raise ValueError("no CA is known yet")
        return bundle.pem

    async def _follow_trust(self, files: CertificateFiles) -> None:
        while True:
            await asyncio.sleep(TRUST_TICK)
            if (bundle := files.trust_bundle()) is not None:
                self._registry.set_trust(bundle)

    async def _watch_cluster(self, on_watching: Callable[[], None]) -> None:
        """kopf looks once for the resources that it watches: they must be there when it starts."""
        while True:
            if await self._discovered():
                break
            await asyncio.sleep(RETRY)
        watching = await self._watch.start()
        on_watching()
        await watching

    async def _discovered(self) -> bool:
        """Whether the API server tells of our resource, to those who ask what it has."""
        try:
            served = await self._api.request("GET", _GROUP)
        except (ApiUnavailable, ApiRefused) as error:
            _log.error("the API server has no ScreeningPolicies, is their CRD installed? %s", error)
            return False
        return any(each.get("name") == Kind.POLICY.value for each in served.get("resources", ()))

    def _heard(self, kind: Kind, body: Mapping[str, Any], deleted: bool) -> None:
        if self._store.heard(kind, body, deleted=deleted):
            self._reconciler.mark_dirty()

    async def _list(self) -> None:
        while True:
            delay = RESYNC
            for kind, (path, selector) in _LISTS.items():
                try:
                    listing = await self._api.list_all(path, selector)
                except (ApiUnavailable, ApiRefused) as error:
                    _log.error("%s can't be listed: %s", kind.value, error)
                    delay = RETRY
                else:
                    if self._store.listed(kind, listing):
                        self._reconciler.mark_dirty()
            await asyncio.sleep(delay)

    async def _follow_secrets(self) -> None:
        while True:
            await asyncio.sleep(SECRETS_TICK)
            if await self._secrets.changed():
                self._reconciler.mark_dirty()

    async def _read(self) -> World | None:
        if not self._store.complete:
            return None
        documents = [policy.document for policy in self._store.policies]
        self._references.keep_only(documents)
        secrets = await self._secrets.find(documents)
        watched = self._store.config_maps()
        unlabelled = await self._unwatched.find(documents, watched)
        # Read again: the questions above took a while.
        return World(
            tuple(policy.document for policy in self._store.policies),
            tuple(self._store.pods),
            {**unlabelled, **self._store.config_maps()},
            secrets,
        )


def _trusting(settings: ReplicaSettings | None, trust: Callable[[], bytes]) -> ReplicaSettings | None:
    """Settings that name no CA for the other replicas trust what sidecars are told to."""
    peers = None if settings is None else settings.peers
    if settings is None or peers is None or peers.credentials.trust is not None:
        return settings
    return replace(settings, peers=replace(peers, credentials=replace(peers.credentials, trust=trust)))
