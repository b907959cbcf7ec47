"""What is the same in every injected pod of a cluster: the operator's own settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """image: the sidecar's. control: HOST:PORT of the control plane, as pods see it. ca_pem: who signs the control plane's certificate, the
    next CA too. pull_policy: None: the cluster's default. resources: a container's, as in Kubernetes.
    """

    image: str
    control: str
    ca_pem: str
    pull_policy: str | None = None
    otlp_endpoint: str | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
