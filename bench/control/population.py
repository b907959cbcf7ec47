"""The cluster that is measured: pods and policies in a real API server, made by many requests at a time.

Contract: `populate` makes one namespace `fleet` whose pods have a simulated sidecar each and are matched by two
policies (`some`, the older, by a label; `all`, by everything), and as many namespaces of 100 pods as are needed
for the rest, in which policies share the pods evenly. Pods are reported as running, as kubelet would.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.cluster import ApiServer
from harness.cluster_client import AUDIENCE
from harness.screening_objects import LABELS, pod_spec, policy
from postwarden_operator.kube.api import MERGE_PATCH, ClusterApi

FLEET = "fleet"
SOME, ALL, NOBODY = "some", "all", "nobody"
GROUP = "group"
PODS_A_NAMESPACE = 100

AT_ONCE = 32
"""Requests under way at a time; more only queue in the API server."""

TOKEN_SECONDS = 4 * 3600
"""Life of a sidecar's token: longer than any run."""

POLICIES_PATH = "/apis/postwarden.dev/v1alpha1/namespaces/{}/screeningpolicies"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many there are of each; pods: the sidecars' among them. group: sidecars that the policy `some` can have."""

    sidecars: int
    policies: int
    pods: int
    group: int


async def populate(api_server: ApiServer, api: ClusterApi, sizes: Sizes) -> list[str]:
    """The tokens of the fleet's pods."""
    rest = max(0, sizes.pods - sizes.sidecars)
    namespaces = [f"bench-{index}" for index in range(-(-rest // PODS_A_NAMESPACE))]
    for name in (FLEET, *namespaces):
        api_server.create_namespace(name)
    # The older policy wins a pod: `some` is made a second earlier, which is the API's resolution of time.
    await api.request("POST", POLICIES_PATH.format(FLEET), _policy(SOME, FLEET, NOBODY))
    await asyncio.sleep(1.1)
    await api.request("POST", POLICIES_PATH.format(FLEET), policy(ALL, FLEET))
    others = max(0, sizes.policies - 2) if namespaces else 0
    await _together(
        _other_policy(api, namespaces[index % len(namespaces)], index // len(namespaces))
        for index in range(others)
    )
    slots = max(1, -(-others // max(1, len(namespaces))))
    await _together(
        _pod(
            api, namespaces[index // PODS_A_NAMESPACE], index % PODS_A_NAMESPACE, {"slot": str(index % slots)}
        )
        for index in range(rest)
    )
    uids = await _together(
        _pod(api, FLEET, index, {GROUP: "first" if index < sizes.group else "rest"})
        for index in range(sizes.sidecars)
    )
    return await _together(_token(api, _name(index), uid) for index, uid in enumerate(uids))


def selects(group: str) -> dict[str, Any]:
    """A selector of the fleet's group."""
    return {"matchLabels": {GROUP: group}}


def _policy(name: str, namespace: str, group: str) -> dict[str, Any]:
    return {**policy(name, namespace), "spec": {"selector": selects(group)}}


async def _other_policy(api: ClusterApi, namespace: str, slot: int) -> None:
    body = policy(f"wall-{slot}", namespace, selector={"matchLabels": {"slot": str(slot)}})
    await api.request("POST", POLICIES_PATH.format(namespace), body)


def _name(index: int) -> str:
    return f"mta-{index}"


async def _pod(api: ClusterApi, namespace: str, index: int, labels: dict[str, str]) -> str:
    """The new pod's uid."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    made = await api.request(
        "POST",
        pods,
        {
            "metadata": {"name": _name(index), "labels": {**LABELS, **labels}},
            "spec": {**pod_spec(), "serviceAccountName": "default"},
        },
    )
    status = {"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
    await api.request("PATCH", f"{pods}/{_name(index)}/status", status, content_type=MERGE_PATCH)
    return str(made["metadata"]["uid"])


async def _token(api: ClusterApi, name: str, uid: str) -> str:
    answer = await api.request(
        "POST",
        f"/api/v1/namespaces/{FLEET}/serviceaccounts/default/token",
        {
            "spec": {
                "audiences": [AUDIENCE],
                "expirationSeconds": TOKEN_SECONDS,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid},
            }
        },
    )
    return str(answer["status"]["token"])


async def _together(requests: Iterable[Awaitable[T]]) -> list[T]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(request: Awaitable[T]) -> T:
        async with gate:
            return await request

    return await asyncio.gather(*(one(request) for request in requests))
