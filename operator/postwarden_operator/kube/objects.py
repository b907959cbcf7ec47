"""Kubernetes' objects reduced to what reconcile needs. Pure."""

import base64
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.reconcile.exposure import Exposure
from postwarden_operator.reconcile.interception import Service, ServicePort
from postwarden_operator.reconcile.world import ConfigMap, Pod

INJECT_LABEL = f"{names.INJECT_LABEL}=true"
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
            key: [
                {part: each[part] for part in ("name", "ports", "restartPolicy") if part in each}
                | ({"env": each.get("env")} if each.get("name") in names.CONTAINERS else {})
                for each in spec.get(key) or ()
            ]
            for key in ("containers", "initContainers")
        },
        "status": {"phase": (body.get("status") or {}).get("phase")},
    }


def pod_of(body: Mapping[str, Any]) -> Pod:
    """screened: not one that is on its way out, for its sidecar drains and takes no more rules."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    running = (body.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in metadata
    sidecar = next((each for each in containers if each.get("name") in names.CONTAINERS), None)
    return Pod(
        uid=metadata["uid"],
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        # Of thousands of pods each would have its own copy of the same words.
        labels={sys.intern(key): sys.intern(value) for key, value in (metadata.get("labels") or {}).items()},
        screened=running and sidecar is not None,
        bare=running and sidecar is None,
        exposure=None if sidecar is None else _exposure_of(spec, sidecar),
    )


def _exposure_of(spec: Mapping[str, Any], sidecar: Mapping[str, Any]) -> Exposure | None:
    """None: a sidecar by hand, whose port is not told by its environment."""
    environment = {each.get("name"): each.get("value") or "" for each in sidecar.get("env") or ()}
    listen, upstream = (
        environment.get(name, "").rpartition(":")[2] for name in ("POSTWARDEN_LISTEN", "POSTWARDEN_UPSTREAM")
    )
    if not listen.isdecimal():
        return None
    init = spec.get("initContainers") or ()
    looked_up = [
        *(spec.get("containers") or ()),
        *(each for each in init if each.get("restartPolicy") == "Always"),
    ]
    ports = tuple(
        (str(port["name"]), int(port["containerPort"]))
        for container in looked_up
        for port in container.get("ports") or ()
        if port.get("name") and port.get("protocol", "TCP") == "TCP"
    )
    redirected = any(each.get("name") == names.REDIRECT_CONTAINER for each in init)
    return _exposure(int(listen), int(upstream) if upstream.isdecimal() else None, ports, redirected)


_exposure = functools.lru_cache(maxsize=1024)(Exposure)
"""Pods of a Deployment share one."""


def service_of(body: Mapping[str, Any]) -> Service:
    spec = body.get("spec") or {}
    return Service(
        name=body["metadata"]["name"],
        selector=tuple(sorted((spec.get("selector") or {}).items()))
        if spec.get("type") != "ExternalName"
        else (),
        ports=tuple(
            ServicePort(int(port["port"]), port.get("targetPort", port["port"]))
            for port in spec.get("ports") or ()
            if port.get("protocol", "TCP") == "TCP"
        ),
        headless=spec.get("clusterIP") == "None",
        outside=spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs")),
        keeps_address=spec.get("externalTrafficPolicy") == "Local",
    )


def config_map_of(body: Mapping[str, Any]) -> ConfigMap:
    content = {key: value.encode() for key, value in (body.get("data") or {}).items()}
    content.update((key, base64.b64decode(value)) for key, value in (body.get("binaryData") or {}).items())
    return content
