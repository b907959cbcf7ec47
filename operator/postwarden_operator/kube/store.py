"""What was heard of the cluster: the newest state of every policy, pod and ConfigMap. No I/O.

Contract: `heard` takes an event of a watch, `listed` a complete list; in whatever order they come, the higher
resource version counts (a number in the same etcd; compared as the API's own clients do since Kubernetes
1.35). A list also takes away what is gone: a watch that had to begin anew never tells of what was deleted
meanwhile. `complete` once each kind was listed: from then on, and only then, what is absent does not exist.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, TypeVar

from postwarden_operator.kube.api import Listing
from postwarden_operator.kube.objects import CurrentStatus, Policy, config_map_of, pod_of, policy_of
from postwarden_operator.reconcile.world import ConfigMap, Pod

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _NamedConfigMap:
    key: tuple[str, str]
    content: ConfigMap


class Kind(Enum):
    """What is watched, by kopf's name."""

    POLICY = "screeningpolicies"
    POD = "pods"
    CONFIG_MAP = "configmaps"


@dataclass
class _Objects(Generic[T]):
    """By uid. gone: the versions at which objects were deleted, until the next list."""

    known: dict[str, tuple[int, T]] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    listed: bool = False
    _values: tuple[T, ...] | None = None

    def put(self, uid: str, version: int, value: T) -> T | None:
        """The value before; the same value if this one is older than what is known."""
        before = self.known.get(uid)
        if version < self.gone.get(uid, -1) or (before is not None and version < before[0]):
            return value
        self.known[uid] = (version, value)
        if before is None or before[1] is not value:
            self._values = None
        return None if before is None else before[1]

    def remove(self, uid: str, version: int) -> bool:
        self.gone[uid] = max(version, self.gone.get(uid, -1))
        self._values = None
        return self.known.pop(uid, None) is not None

    def keep(self, uids: set[str], version: int) -> bool:
        """Only what a list of this version has, and what is newer than the list."""
        absent = [uid for uid, (each, _) in self.known.items() if uid not in uids and each <= version]
        for uid in absent:
            del self.known[uid]
        self.gone, self.listed, self._values = {}, True, None
        return bool(absent)

    def values(self) -> tuple[T, ...]:
        """The same object until something changes."""
        if self._values is None:
            self._values = tuple(value for _, value in self.known.values())
        return self._values


class Store:
    """Used from one event loop."""

    def __init__(self, written: Callable[[Mapping[str, Any]], None] = lambda body: None) -> None:
        """written: called with each policy that is new, or not as it was."""
        self._written = written
        self._policies = _Objects[Policy]()
        self._pods = _Objects[Pod]()
        self._config_maps = _Objects[_NamedConfigMap]()

    def heard(self, kind: Kind, body: Mapping[str, Any], *, deleted: bool) -> bool:
        """Whether anything changed that a reconcile looks at: a status that was written does not."""
        metadata = body["metadata"]
        uid, version = metadata["uid"], version_of(body)
        if deleted:
            return self._of(kind).remove(uid, version)
        match kind:
            case Kind.POLICY:
                policy = policy_of(body)
                known = self._policies.known.get(uid)
                if known is not None and known[1].document == policy.document:
                    # The same object again, by which others know that nothing changed: a write of status, or a list, makes a new one.
                    policy = replace(policy, document=known[1].document)
                before = self._policies.put(uid, version, policy)
                changed = before is None or before.document != policy.document
                if changed:
                    self._written(body)
                return changed
            case Kind.POD:
                pod = pod_of(body)
                if (last := self._pods.known.get(uid)) is not None and last[1] == pod:
                    pod = last[1]  # most events of a pod are about what we do not read
                return self._pods.put(uid, version, pod) != pod
            case Kind.CONFIG_MAP:
                config_map = _NamedConfigMap((metadata["namespace"], metadata["name"]), config_map_of(body))
                return self._config_maps.put(uid, version, config_map) != config_map

    def listed(self, kind: Kind, listing: Listing) -> bool:
        """Whether anything changed."""
        first = not self.complete
        changed = [self.heard(kind, body, deleted=False) for body in listing.items]
        uids = {body["metadata"]["uid"] for body in listing.items}
        removed = self._of(kind).keep(uids, _number(listing.resource_version))
        return any(changed) or removed or (first and self.complete)

    def _of(self, kind: Kind) -> _Objects[Policy] | _Objects[Pod] | _Objects[_NamedConfigMap]:
        match kind:
            case Kind.POLICY:
                return self._policies
            case Kind.POD:
                return self._pods
            case Kind.CONFIG_MAP:
                return self._config_maps

    @property
    def complete(self) -> bool:
        return self._policies.listed and self._pods.listed and self._config_maps.listed

    @property
    def policies(self) -> tuple[Policy, ...]:
        return self._policies.values()

    @property
    def pods(self) -> tuple[Pod, ...]:
        """The same object until one changes."""
        return self._pods.values()

    def pod(self, uid: str) -> Pod | None:
        found = self._pods.known.get(uid)
        return None if found is None else found[1]

    def policy(self, uid: str) -> Mapping[str, Any] | None:
        """Its document; None: the policy is gone."""
        found = self._policies.known.get(uid)
        return None if found is None else found[1].document

    def policy_status(self, uid: str) -> CurrentStatus | None:
        """None: the policy is gone."""
        found = self._policies.known.get(uid)
        return None if found is None else CurrentStatus(found[1].status, found[0])

    def config_maps(self) -> dict[tuple[str, str], ConfigMap]:
        """By namespace and name. A name made anew may be known twice for a moment: the younger counts."""
        ordered = sorted(self._config_maps.known.values(), key=lambda each: each[0])
        return {config_map.key: config_map.content for _, config_map in ordered}


def version_of(body: Mapping[str, Any]) -> int:
    """An object's resource version."""
    return _number(body["metadata"].get("resourceVersion"))


def _number(version: object) -> int:
    """0 for a version that is no number: then the order in which things are heard counts."""
    return int(version) if isinstance(version, str) and version.isdecimal() else 0
