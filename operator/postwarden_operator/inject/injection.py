"""The wanted pod, of the pod that a user asks for.

Contract: pure, and idempotent: a pod that has our container, in whatever place, is left as it is, so that a second call of the webhook
changes nothing, nor does one for a sidecar written by hand. What the user wrote stays, but for what interception needs: see `ports` and
`shutdown`. A pod that can't be injected is refused, or, where its annotation `on-error` says so, starts unscreened with a warning and an
annotation that says why.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.inject import names
from postwarden_operator.inject.annotations import (
    Annotations,
    AnnotationsInvalid,
    Intercept,
    OnError,
    on_error,
    read_annotations,
)
from postwarden_operator.inject.mta import NotInjectable, all_containers, find_mta, refuse_unfit
from postwarden_operator.inject.ports import probe_by_proof, take_port_name
from postwarden_operator.inject.settings import InjectionSettings
from postwarden_operator.inject.shutdown import outlive_drain
from postwarden_operator.inject.sidecar import redirect_container, sidecar_container, volumes

_MIRROR = "kubernetes.io/config.mirror"
"""Of the API server's picture of a pod that a kubelet runs from a file: nobody can change that."""

Pod = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Injection:
    """pod: as it is to be; the given one where nothing is to change. warnings: for whoever creates it, a sentence each."""

    pod: Pod
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """message: why the pod is not to be created, and what to change."""

    message: str


def inject(pod: Pod, namespace: str, settings: InjectionSettings) -> Injection | Refusal:
    """namespace: the request's, for a pod in the making has none."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    labelled = (metadata.get("labels") or {}).get(names.INJECT_LABEL) == "true"
    if not labelled or _MIRROR in annotations or _has_sidecar(spec):
        return Injection(pod)
    try:
        wanted, warnings = read_annotations(annotations)
        return Injection(_injected(pod, wanted, settings), warnings + _remarks(spec, wanted))
    except (AnnotationsInvalid, NotInjectable) as problem:
        name = metadata.get("name") or f"{metadata.get('generateName', '')}*"
        if on_error(annotations) is OnError.UNSCREENED:
            unscreened = copy.deepcopy(dict(pod))
            unscreened["metadata"]["annotations"][names.NOT_INJECTED] = str(problem)
            return Injection(unscreened, (f"pod {namespace}/{name} starts UNSCREENED: {problem}",))
        return Refusal(f"pod {namespace}/{name} can't be screened: {problem}")


def _injected(pod: Pod, wanted: Annotations, settings: InjectionSettings) -> Pod:
    """Raises NotInjectable."""
    refuse_unfit(pod, wanted)
    changed = copy.deepcopy(dict(pod))
    spec = changed["spec"]
    mta = find_mta(spec, wanted)
    ours = [sidecar_container(spec, mta, wanted, settings)]
    if wanted.intercept is Intercept.PORT:
        take_port_name(spec, mta, wanted)
    elif wanted.intercept is Intercept.REDIRECT:
        ours.insert(0, redirect_container(mta, wanted, settings))
    probe_by_proof(spec, mta, wanted)
    outlive_drain(spec, wanted)
    # Behind the user's own: what prepares the MTA's socket runs before, and what gives the pod its network is there. At the end native
    # sidecars stop in reverse order.
    spec["initContainers"] = [*(spec.get("initContainers") or ()), *ours]
    spec["volumes"] = [*(spec.get("volumes") or ()), *volumes()]
    return changed


def _has_sidecar(spec: Mapping[str, Any]) -> bool:
    return any(each.get("name") in names.CONTAINERS for each in all_containers(spec))


def _remarks(spec: Mapping[str, Any], wanted: Annotations) -> tuple[str, ...]:
    if spec.get("hostNetwork") and wanted.intercept is Intercept.NONE:
        return (
            "the pod uses the node's network: the sidecar's ports are the node's, and nothing keeps clients from the MTA's own port",
        )
    return ()
