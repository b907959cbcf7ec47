"""Injection as a part of the operator: the webhook's server, its certificate, and the CA in its configuration.

Contract: `start` before the sidecars' own server is of use to anybody; `run` until cancelled; `stop` once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from postwarden_operator.controlplane.tls import Certificate
from postwarden_operator.controlplane.trust import TrustBundle
from postwarden_operator.inject import InjectionSettings
from postwarden_operator.kube.api import ClusterApi
from postwarden_operator.kube.webhook import Webhook
from postwarden_operator.kube.webhook_certificate import WebhookCertificate
from postwarden_operator.kube.webhook_configuration import WebhookConfiguration


class NoTrust(Exception):
    """There is no CA to tell pods of."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """host, port: to listen on. sidecar: what is injected; its CA comes from the operator's trust bundle. configuration: the
    MutatingWebhookConfiguration whose caBundle the operator keeps; None: somebody else does."""

    host: str
    port: int
    sidecar: InjectionSettings
    configuration: str | None = None


class Injector:
    """bundle: what new pods, and the API server, are to trust. leading: whether this replica is the one that writes."""

    def __init__(
        self,
        api: ClusterApi,
        settings: WebhookSettings,
        bundle: Callable[[], TrustBundle | None],
        leading: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._bundle = bundle
        self._webhook = Webhook(self._sidecar)
        self._configuration = (
            None
            if settings.configuration is None
            else WebhookConfiguration(api, settings.configuration, bundle, leading)
        )

    @property
    def not_ready(self) -> str | None:
        """Why pods made now might start unscreened; None: they do not."""
        if self._configuration is None or self._configuration.settled:
            return None
        return "the API server does not trust the webhook yet"

    async def start(self, certificate: Certificate) -> None:
        """Raises NoTrust, WebhookUnavailable, OSError (the certificate is of no use)."""
        self._sidecar()
        tls = WebhookCertificate(certificate.newest)
        await self._webhook.start(self._settings.host, self._settings.port, tls.context)

    async def run(self) -> None:
        """Until cancelled."""
        if self._configuration is None:
            await asyncio.Event().wait()
        else:
            await self._configuration.run()

    async def stop(self) -> None:
        await self._webhook.stop()

    def _sidecar(self) -> InjectionSettings:
        if (bundle := self._bundle()) is None:
            raise NoTrust("--webhook needs the CA that pods are to trust: give --tls-ca")
        return replace(self._settings.sidecar, ca_pem=bundle.pem.decode())
