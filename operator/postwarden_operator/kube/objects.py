"""Kubernetes' objects reduced to what reconcile needs. Pure."""

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.reconcile.world import ConfigMap, Pod

CONTAINER = "postwarden"
"""The name of our container in a pod, and of the native sidecar."""

INJECT_LABEL = "postwarden.dev/inject=true"
"""Every screened pod carries it; the watch selects by it."""

WATCH_LABEL = "postwarden.dev/watch=true"
"""The ConfigMaps that are read carry it."""

_POLICY_METADATA = ("name", "namespace", "uid", "generation", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Policy:
    """document.

    Without status and without metadata that says nothing of the policy. status: what is in the object now.
    """

    document: Mapping[str, Any]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CurrentStatus:
    """A policy's status as it is in the object of this resource version."""

    status: Mapping[str, Any]
    version: int


def policy_of(body: Mapping[str, Any]) -> Policy:
    metadata = {key: body["metadata"][key] for key in _POLICY_METADATA if key in body["metadata"]}
    kept = {key: body[key] for key in ("apiVersion", "kind", "spec") if key in body}
    return Policy({**kept, "metadata": metadata}, body.get("status") or {})


def essentials_of_policy(body: Mapping[str, Any]) -> dict[str, Any]:
    """What `policy_of` reads, its version, and of managedFields when and of what: the fields themselves are as long as the object."""
    metadata = body["metadata"]
    kept = {key: metadata[key] for key in (*_POLICY_METADATA, "resourceVersion") if key in metadata}
    kept["managedFields"] = [
        {key: each[key] for key in ("time", "subresource") if key in each}
        for each in metadata.get("managedFields") or ()
    ]
    return {**{key: value for key, value in body.items() if key != "metadata"}, "metadata": kept}


def essentials(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pod, what `pod_of` reads, and its version: a list of 10,000 whole pods takes 200 MB (measured)."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    kept = ("uid", "namespace", "name", "labels", "resourceVersion", "deletionTimestamp")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {
            key: [{"name": each.get("name")} for each in spec.get(key) or ()]
            for key in ("containers", "initContainers")
        },
        "status": {"phase": (body.get("status") or {}).get("phase")},
    }


def pod_of(body: Mapping[str, Any]) -> Pod:
    """screened: not one that is on its way out, for its sidecar drains and takes no more rules."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    running = (body.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in metadata
    return Pod(
        uid=metadata["uid"],
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        # Of thousands of pods each would have its own copy of the same words.
        labels={sys.intern(key): sys.intern(value) for key, value in (metadata.get("labels") or {}).items()},
        screened=running and any(container.get("name") == CONTAINER for container in containers),
    )


def config_map_of(body: Mapping[str, Any]) -> ConfigMap:
    content = {key: value.encode() for key, value in (body.get("data") or {}).items()}
    content.update((key, base64.b64decode(value)) for key, value in (body.get("binaryData") or {}).items())
    return content
