"""What is known of policies, pods and lists at one moment. Plain data, whatever the source.

Contract: a World is complete: a source that has not read all policies and pods since its start gives none.
For from it follows that no policy matches a pod, which makes a sidecar forget its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from postwarden_operator.compiler import (
    ListContent,
    Missing,
    NotLabelled,
    NotPermitted,
    SecretContent,
    SecretValue,
)
from postwarden_operator.policy import ConfigMapKey, SecretKey
from postwarden_operator.reconcile.exposure import Exposure


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is labelled for screening. screened: it runs, and carries our container. bare: it runs, and does not. exposure: of a
    screened one, as far as its specification tells."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    screened: bool
    bare: bool = False
    exposure: Exposure | None = None


ConfigMap = Mapping[str, bytes]
"""The keys of a ConfigMap; `binaryData` is decoded from base64."""


@dataclass(frozen=True, slots=True)
class Secret:
    """version: see SecretValue. used_for: its annotation."""

    data: Mapping[str, bytes] = field(repr=False)
    version: str
    used_for: str | None


@dataclass(frozen=True, slots=True)
class World:
    """policies: documents as they are, valid or not. config_maps, secrets: by namespace and name."""

    policies: tuple[Mapping[str, object], ...] = ()
    pods: tuple[Pod, ...] = ()
    config_maps: Mapping[tuple[str, str], ConfigMap | NotLabelled] = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], Secret | NotPermitted] = field(default_factory=dict)

    def list_content(self, namespace: str, key: ConfigMapKey) -> ListContent:
        """What a policy of `namespace` finds there."""
        match self.config_maps.get((namespace, key.name)):
            case None:
                return Missing()
            case NotLabelled() as marker:
                return marker
            case config_map:
                return config_map.get(key.key, Missing(tuple(sorted(config_map))))

    def secret_content(self, namespace: str, key: SecretKey) -> SecretContent:
        """What a policy of `namespace` finds there."""
        match self.secrets.get((namespace, key.name)):
            case None:
                return Missing()
            case NotPermitted() as marker:
                return marker
            case secret:
                value = secret.data.get(key.key)
                if value is None:
                    return Missing(tuple(sorted(secret.data)))
                return SecretValue(value, secret.version, secret.used_for)
