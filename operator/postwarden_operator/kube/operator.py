"""The operator in a cluster: follow it, reconcile, serve the sidecars, write status.

Contract: `run` serves until `stop` is called or a part of it breaks, which raises; a pod's restart is then
the remedy. An API server that is away, refuses or fails breaks nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.server import ScreeningServer
from postwarden_operator.controlplane.tls import Certificate, CertificateFiles, CertificateInMemory
from postwarden_operator.kube.api import ClusterApi
from postwarden_operator.kube.authenticator import TokenReviewer
from postwarden_operator.kube.authority_keeper import AuthorityKeeper, OwnAuthority
from postwarden_operator.kube.follower import Follower
from postwarden_operator.kube.garbage import short_collections
from postwarden_operator.kube.health import Health
from postwarden_operator.kube.injector import Injector, WebhookSettings
from postwarden_operator.kube.interception import ServiceWatch
from postwarden_operator.kube.references import References, Unwatched
from postwarden_operator.kube.replicas import Replicas, ReplicaSettings
from postwarden_operator.kube.secrets import Secrets
from postwarden_operator.kube.store import Store
from postwarden_operator.kube.watch import Watch
from postwarden_operator.reconcile.loop import Reconciler
from postwarden_operator.reconcile.plan import Plan
from postwarden_operator.reconcile.world import World
from postwarden_operator.telemetry.metrics import ReplicaState
from postwarden_operator.telemetry.service import NO_TELEMETRY, Telemetry, TelemetrySettings

SECRETS_TICK = 5.0
"""Seconds between two looks at which Secrets are to be asked for again."""

TRUST_TICK = 5.0
"""Seconds between two looks at the CA's file: kubelet needs a minute to write a changed Secret into a volume."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """listen: HOST:PORT of the control plane. identity: where its certificate comes from. health: host and port for kubelet's probes;
    None: none.

    replicas: how this one and others share the work; None: there are no others. telemetry: where traces and metrics go. webhook: None:
    pods are not injected.
    """

    listen: str
    identity: CertificateFiles | OwnAuthority
    health: tuple[str, int] | None = None
    replicas: ReplicaSettings | None = None
    telemetry: TelemetrySettings = NO_TELEMETRY
    webhook: WebhookSettings | None = None


class KubeOperator:
    """Made and run in one event loop."""

    def __init__(self, settings: OperatorSettings, api: ClusterApi) -> None:
        self._settings = settings
        self._api = api
        self._telemetry = Telemetry(settings.telemetry, state=self._replica_state)
        self._store = Store(self._written)
        self._replicas = Replicas(
            api,
            _trusting(settings.replicas, self._trusted),
            lambda: self._registry,
            self._store.policy_status,
            lambda outcome: self._services.of(outcome),
        )
        self._services = ServiceWatch(
            api, self._store, lambda: self._replicas.leading, self._replicas.writer.look_at_all
        )
        self._registry = Registry(self._replicas.sink)
        self._reconciler = Reconciler(
            self._read,
            self._registry,
            self._planned,
            doubt=lambda: self._follower.doubt,
            observer=self._telemetry.changes,
        )
        self._follower = Follower(api, self._store, Watch, self._reconciler.mark_dirty)
        self._references = References()
        self._unwatched = Unwatched(api, self._references)
        self._secrets = Secrets(api, self._references)
        self._server = ScreeningServer(
            self._registry, TokenReviewer(api, self._store.pod), self._telemetry.changes
        )
        self._injector = (
            None
            if settings.webhook is None
            else Injector(
                api, settings.webhook, lambda: self._registry.trust_bundle, lambda: self._replicas.leading
            )
        )
        self._health = Health(self._alive, self._ready)
        self._compiled = False
        if self._replicas.servicer is not None:
            self._server.serve_peers(self._replicas.servicer)
        self._stop = asyncio.Event()

    def _written(self, policy: Mapping[str, Any]) -> None:
        metadata = policy["metadata"]
        # Status is written by us, and is no change of the policy.
        fields = [each for each in metadata.get("managedFields") or () if not each.get("subresource")]
        times = [str(each.get("time")) for each in fields]
        version, generation = str(metadata.get("resourceVersion") or ""), metadata.get("generation")
        self._telemetry.changes.wrote(metadata["uid"], generation or 0, version, times)

    def _replica_state(self) -> ReplicaState:
        sidecars = {state.value.lower(): count for state, count in self._registry.counts().items()}
        return ReplicaState(self._replicas.known_to_lead, sidecars)

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Raises ListenFailed, WebhookUnavailable, HealthUnavailable, MetricsUnservable, AuthorityUnusable; or what made a part end."""
        # First of all: an API server that is away keeps us from serving, and is no reason to start anew.
        if self._settings.health is not None:
            await self._health.start(*self._settings.health)
        try:
            await self._telemetry.start()
            await self._serve()
        finally:
            await self._telemetry.stop()
            await self._health.stop()

    async def _serve(self) -> None:
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
        if self._injector is not None:
            await self._injector.start(certificate)
        parts = [
            asyncio.create_task(part)
            for part in (
                short_collections(),
                self._reconciler.run(),
                *self._replicas.parts(),
                self._follower.run(),
                self._follow_secrets(),
                follow_trust(),
                self._services.run(),
                *([] if self._injector is None else [self._injector.run()]),
            )
        ]
        try:
            await asyncio.wait((*parts, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._replicas.stop()
            if self._injector is not None:
                await self._injector.stop()
            await self._server.stop()
            for task in (*parts, stopping):
                task.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
        if not self._stop.is_set():
            faults = [each for each in ended if isinstance(each, Exception)]
            raise faults[0] if faults else RuntimeError("a part of the operator ended")

    def _alive(self) -> str | None:
        if self._follower.beyond_remedy:
            return "the watch of the cluster tells nothing, however often it begins anew"
        return None

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

    def _ready(self) -> str | None:
        if not self._compiled:
            return "the policies are not all compiled yet"
        return None if self._injector is None else self._injector.not_ready

    def _planned(self, plan: Plan) -> None:
        self._compiled |= not any(outcome.compilation.compiling for outcome in plan.outcomes)
        self._replicas.publish(plan)

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
            self._store.pods,
            {**unlabelled, **self._store.config_maps()},
            secrets,
        )


def _trusting(settings: ReplicaSettings | None, trust: Callable[[], bytes]) -> ReplicaSettings | None:
    """Settings that name no CA for the other replicas trust what sidecars are told to."""
    peers = None if settings is None else settings.peers
    if settings is None or peers is None or peers.credentials.trust is not None:
        return settings
    return replace(settings, peers=replace(peers, credentials=replace(peers.credentials, trust=trust)))
