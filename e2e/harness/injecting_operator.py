"""An operator that injects, as its own CA, and the webhook configuration by which the API server asks it.

Contract: as AuthorityOperator. The configuration is the chart's, but for an url in place of a Service, for nothing routes a
ClusterIP here; and each pod is sent twice.
"""

import base64
from collections.abc import Mapping
from typing import Any

from loopback_ports import free_port

from harness.chart import documents, rendered
from harness.cluster import ApiError, ApiServer
from harness.operator_authority import AuthorityOperator

CONFIGURATION = "postwarden"
IMAGE = "postwarden/sidecar:test"
CONTROL = "postwarden.postwarden-system.svc:8443"


class InjectingOperator(AuthorityOperator):
    """webhook_port: another's of the same url, for a second replica; None: one of its own."""

    def __init__(
        self,
        api_server: ApiServer,
        *,
        secret: str,
        options: tuple[str, ...] = (),
        webhook_port: int | None = None,
    ) -> None:
        self.webhook_port = webhook_port or free_port()
        injection = (
            f"--webhook=127.0.0.1:{self.webhook_port}",
            f"--webhook-configuration={CONFIGURATION}",
            f"--sidecar-image={IMAGE}",
            f"--sidecar-control={CONTROL}",
            '--sidecar-resources={"requests": {"cpu": "50m", "memory": "96Mi"}}',
        )
        super().__init__(api_server, secret=secret, options=(*injection, *options))

    @property
    def trusted(self) -> bytes:
        """What the API server trusts the webhook by; empty: nothing."""
        try:
            body = self._api_server.request("GET", f"{_CONFIGURATIONS}/{CONFIGURATION}")
        except ApiError:
            return b""
        return base64.b64decode(body["webhooks"][0]["clientConfig"].get("caBundle", ""))


_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def webhook_configuration(port: int) -> Mapping[str, Any]:
    """Of an operator whose webhook listens there. It is called twice for each pod: that is what a reinvocation is."""
    (configuration,) = documents(rendered("", "--show-only", "templates/webhook.yaml"))
    (webhook,) = configuration["webhooks"]
    webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}/inject"}
    configuration["webhooks"] = [webhook, {**webhook, "name": "again.postwarden.dev"}]
    return configuration
