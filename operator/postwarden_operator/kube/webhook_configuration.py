"""Keeps `caBundle` of a MutatingWebhookConfiguration at the operator's own CA, which the API server trusts by it.

Contract: only while this replica leads: two that hear of a new CA at different moments would undo each other's writes. A write names the
version that it is based on. What can't be read or written is logged once and tried again; every webhook of the configuration is ours.
Until it was once seen to be right no replica is ready, for pods made just after the installation would start unscreened; but not for
long, for sidecars are served by ready replicas only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from postwarden_operator.controlplane.trust import TrustBundle
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi

LOOK = 10.0
"""Seconds between two looks: somebody may have written over it, and until it is mended pods start unscreened."""

TICK = 1.0
"""Seconds between two looks at whether this replica leads, and at the CA; and between two attempts."""

PATIENCE = 30.0
"""Seconds for which readiness waits for it: a Lease that the last leader did not give back lasts half as long."""

STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
"""By which a webhook is named, and not numbered."""

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

_log = logging.getLogger(__name__)


class WebhookConfiguration:
    """name: the configuration's. bundle: what it is to hold; None: not known yet."""

    def __init__(
        self,
        api: ClusterApi,
        name: str,
        bundle: Callable[[], TrustBundle | None],
        leading: Callable[[], bool],
    ) -> None:
        self._api, self._name = api, name
        self._path = f"{CONFIGURATIONS}/{name}"
        self._bundle, self._leading = bundle, leading
        self._said = ""
        self._settled = False

    @property
    def settled(self) -> bool:
        """The API server was seen to trust the webhook, or was waited for long enough."""
        return self._settled

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + PATIENCE
        kept: tuple[TrustBundle, float] | None = None
        while True:
            bundle, leading = self._bundle(), self._leading()
            if bundle is None:
                kept = None
            elif not leading:
                kept = None
                self._settled = self._settled or await self._try(self._look, bundle)
            elif kept is None or kept[0] != bundle or loop.time() >= kept[1] + LOOK:
                kept = (bundle, loop.time()) if await self._try(self.ensure, bundle) else None
                self._settled = self._settled or kept is not None
            self._settled = self._settled or loop.time() >= patient_until
            await asyncio.sleep(TICK)

    async def _try(self, step: Callable[[TrustBundle], Awaitable[bool]], bundle: TrustBundle) -> bool:
        """Whether the configuration is right now."""
        try:
            right = await step(bundle)
        except (ApiUnavailable, ApiRefused) as error:
            conflict = isinstance(error, ApiRefused) and error.status == 409
            if not conflict and str(error) != self._said:
                self._said = str(error)
                _log.error(
                    "the MutatingWebhookConfiguration %s can't be kept, and pods may start unscreened: %s",
                    self._name,
                    error,
                )
            return False
        self._said = ""
        return right

    async def _look(self, bundle: TrustBundle) -> bool:
        return not _wrong(await self._api.request("GET", self._path), bundle)

    async def ensure(self, bundle: TrustBundle) -> bool:
        """Once, now; True. Raises ApiUnavailable, ApiRefused."""
        body = await self._api.request("GET", self._path)
        if wrong := _wrong(body, bundle):
            patch = {
                "metadata": {"resourceVersion": body["metadata"]["resourceVersion"]},
                "webhooks": [
                    {"name": name, "clientConfig": {"caBundle": bundle.ca_bundle}} for name in wrong
                ],
            }
            await self._api.request("PATCH", self._path, patch, content_type=STRATEGIC_MERGE_PATCH)
            _log.info("the API server trusts the webhook by the CA of now (%s)", self._name)
        return True


def _wrong(body: Mapping[str, Any], bundle: TrustBundle) -> list[str]:
    """Names of webhooks that the API server does not trust by this bundle."""
    return [
        webhook["name"]
        for webhook in body.get("webhooks") or ()
        if (webhook.get("clientConfig") or {}).get("caBundle") != bundle.ca_bundle
    ]
