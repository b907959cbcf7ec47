"""Which pods of a cluster are asked, and the way to each: by port-forward, with the rights of the user.

Contract: nothing is kept and nothing changed. Every reason why a pod can't be asked is one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from postwarden_operator.compiler.select import Candidate, Winners
from postwarden_operator.inject.names import CONTAINER, CONTAINERS, INJECT_LABEL, NOT_INJECTED
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.port_forward import NotForwarded, port_forward

from postwarden_cli.admin_client import NoEndpoint, Opener, Refused, Unanswered

INJECTION = "postwarden.dev/injection"  # the namespaces' label
POLICIES = "/apis/postwarden.dev/v1alpha1/namespaces/{}/screeningpolicies"


@dataclass(frozen=True, slots=True)
class Selection:
    """names: of pods; none: all that have a sidecar. selector: of labels, as kubectl has it. policy: only pods for which it is in force."""

    namespace: str
    names: tuple[str, ...] = ()
    selector: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class SidecarPod:
    """A pod as it is now. trouble: why its sidecar can't be asked now, or ""."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    has_sidecar: bool
    trouble: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> SidecarPod:
        """From the object."""
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        has_sidecar = any(each.get("name") in CONTAINERS for each in containers)
        phase = status.get("phase") or "Unknown"
        name = metadata["name"]
        trouble = "" if phase == "Running" else f"pod {name} is not running, it is {phase}"
        if not has_sidecar:
            why = (metadata.get("annotations") or {}).get(NOT_INJECTED)
            hint = f'pods get one that are made with the label {INJECT_LABEL}: "true" in a namespace with {INJECTION}: enabled'
            trouble = f"pod {name} has no Postwarden sidecar (no container named {CONTAINER}): {why or hint}"
        return cls(
            metadata["namespace"], name, metadata["uid"], metadata.get("labels") or {}, has_sidecar, trouble
        )


async def find(api: ClusterApi, selection: Selection) -> list[SidecarPod]:
    """Those that the selection means, with a sidecar or, where named, without. Raises Refused for a name or policy that is not there,
    and for a right that is missing; Unanswered where the API server does not answer."""
    try:
        pods = await _named(api, selection) if selection.names else await _labelled(api, selection)
        if selection.policy:
            pods = await _under(api, selection, pods)
    except ApiUnavailable as error:
        raise Unanswered(f"the API server does not answer: {error}") from error
    except ApiRefused as error:
        raise Refused(str(error)) from error
    return sorted(pods, key=lambda pod: pod.name)


async def _named(api: ClusterApi, selection: Selection) -> list[SidecarPod]:
    async def one(name: str) -> SidecarPod:
        try:
            return SidecarPod.of(
                await api.request("GET", f"/api/v1/namespaces/{selection.namespace}/pods/{name}")
            )
        except ApiRefused as error:
            if error.status != 404:
                raise
            raise Refused(f"there is no pod {name} in namespace {selection.namespace}") from error

    return list(await asyncio.gather(*map(one, dict.fromkeys(selection.names))))


async def _labelled(api: ClusterApi, selection: Selection) -> list[SidecarPod]:
    listing = await api.list_all(f"/api/v1/namespaces/{selection.namespace}/pods", selection.selector)
    pods = map(SidecarPod.of, listing.items)
    return [pod for pod in pods if pod.has_sidecar]


async def _under(api: ClusterApi, selection: Selection, pods: Iterable[SidecarPod]) -> list[SidecarPod]:
    documents = (await api.list_all(POLICIES.format(selection.namespace))).items
    if not any(document["metadata"]["name"] == selection.policy for document in documents):
        raise Refused(f"there is no ScreeningPolicy {selection.policy} in namespace {selection.namespace}")
    candidates = [found for document in documents if (found := Candidate.of_document(document)) is not None]
    pods = list(pods)
    winner = Winners()(candidates, pods).winner
    return [pod for pod in pods if pod.uid in winner and winner[pod.uid].name == selection.policy]


def way_to(api: ClusterApi, pod: SidecarPod, port: int) -> Opener:
    """By port-forward."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[aiohttp.ClientSession]:
        if pod.trouble:
            raise Unanswered(pod.trouble)
        async with port_forward(api, pod.namespace, pod.name, port) as forward:
            connector = aiohttp.UnixConnector(str(forward.path))
            try:
                async with aiohttp.ClientSession(f"http://localhost:{port}", connector=connector) as session:
                    yield session
            except (aiohttp.ClientError, OSError, TimeoutError):
                if forward.problem is not None:
                    raise _judged(forward.problem, pod, port) from forward.problem
                raise

    return opened


def _judged(problem: Exception, pod: SidecarPod, port: int) -> Unanswered | Refused:
    match problem:
        case ApiRefused(status=401 | 403):
            return Refused(
                f"you may not forward ports of pods in namespace {pod.namespace}: that takes the verbs get and create on "
                "pods/portforward, which a Role can give you"
            )
        case ApiRefused(status=404):
            return Unanswered(f"pod {pod.name} is gone")
        case NotForwarded() if "refused" in str(problem):
            return NoEndpoint(
                f"pod {pod.name} has no admin endpoint on port {port}: its sidecar is older than the endpoint, or was started "
                f"without --admin 127.0.0.1:{port}"
            )
        case NotForwarded():
            return Unanswered(f"kubelet does not forward to pod {pod.name}: {' '.join(str(problem).split())}")
    return Unanswered(f"pod {pod.name} can't be reached: {problem}")
