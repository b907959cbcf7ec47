"""Services as the API server lists them, and when they are listed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from inject.golden import goldens
from kubernetes.aio import client
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi, Listing
from postwarden_operator.kube.interception import ServiceWatch
from postwarden_operator.kube.objects import essentials, pod_of, service_of
from postwarden_operator.kube.store import Kind, Store
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.exposure import Exposure
from postwarden_operator.reconcile.interception import Service, ServicePort
from postwarden_operator.reconcile.plan import Outcome, plan
from postwarden_operator.reconcile.world import World

SERVICE = {
    "metadata": {"name": "mx", "namespace": "mail"},
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.7",
        "selector": {"postwarden.dev/inject": "true"},
        "externalTrafficPolicy": "Cluster",
        "ports": [
            {"port": 25, "targetPort": "smtp", "protocol": "TCP"},
            {"port": 53, "targetPort": 53, "protocol": "UDP"},
        ],
    },
}


def injected(name: str) -> dict[str, Any]:
    (pod,) = (golden.wanted["pod"] for golden in goldens() if golden.name == name)
    metadata = {**pod["metadata"], "namespace": "mail", "uid": "pod-1", "resourceVersion": "5"}
    return {**pod, "metadata": metadata, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("golden", "exposure"),
    [
        ("plain-postfix", Exposure(10025, 25, (("smtp-upstream", 25), ("smtp", 10025)))),
        ("redirect", Exposure(10025, 25, (("postwarden-smtp", 10025),), redirected=True)),
        ("none", Exposure(10025, 25, (("smtp", 25), ("postwarden-smtp", 10025)))),
        ("pass", Exposure(10025, None, (("smtp", 10025),))),
        (
            "several-containers",
            Exposure(
                12025,
                2525,
                (("milter", 11332), ("smtp-upstream", 2525), ("mesh", 15001), ("mail", 12025)),
            ),
        ),
        ("already-injected", None),
    ],
)
def test_injected_pods_exposure_is_read_from_its_specification(
    golden: str, exposure: Exposure | None
) -> None:
    body = injected(golden)
    assert pod_of(body).exposure == exposure
    assert pod_of(essentials(body)) == pod_of(body)


def test_pod_that_runs_without_a_sidecar_is_bare() -> None:
    body = injected("nonsense-unscreened")
    assert pod_of(body).bare
    assert not pod_of({**body, "status": {"phase": "Pending"}}).bare
    assert not pod_of(injected("plain-postfix")).bare


def test_service_is_read_as_far_as_tcp_goes() -> None:
    selector = (("postwarden.dev/inject", "true"),)
    assert service_of(SERVICE) == Service("mx", selector, (ServicePort(25, "smtp"),), outside=True)
    spec: dict[str, Any] = {"clusterIP": "None", "ports": [{"port": 25}]}
    assert service_of({**SERVICE, "spec": spec}) == Service("mx", (), (ServicePort(25, 25),), headless=True)
    assert service_of({**SERVICE, "spec": {"type": "ExternalName"}}) == Service("mx", (), ())


def policy(namespace: str = "mail", **spec: Any) -> dict[str, Any]:
    metadata = {
        "name": "wall",
        "namespace": namespace,
        "uid": f"policy-{namespace}",
        "generation": 1,
        "resourceVersion": "4",
    }
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": metadata,
        "spec": {"selector": {}, **spec},
    }


def filled(*policies: dict[str, Any], pod: str = "plain-postfix") -> Store:
    store = Store()
    store.listed(Kind.POLICY, Listing(list(policies), "9"))
    store.listed(Kind.POD, Listing([injected(pod)], "9"))
    store.listed(Kind.CONFIG_MAP, Listing([], "9"))
    return store


def outcome(store: Store) -> Outcome:
    world = World(tuple(each.document for each in store.policies), store.pods)
    return plan(world, Compiler(strict=False)).outcomes[0]


class Cluster(ClusterApi):
    """Answers lists of Services without a socket, for virtual time."""

    def __init__(self) -> None:
        super().__init__(client.ApiClient(client.Configuration(host="http://127.0.0.1:1")))
        self.lists: list[str] = []
        self.failing: Exception | None = None

    async def list_all(self, path: str, *_: Any, **__: Any) -> Listing:
        self.lists.append(path.removeprefix("/api/v1/namespaces/").removesuffix("/services"))
        if self.failing is not None:
            raise self.failing
        return Listing([SERVICE], "7")


@pytest.fixture
async def cluster() -> Any:
    made = Cluster()
    yield made
    await made.close()


@pytest.mark.looptime
async def test_leader_looks_every_five_minutes_and_at_a_new_namespace_at_once(cluster: Cluster) -> None:
    store, leads, told = filled(policy()), [False], []
    services = ServiceWatch(cluster, store, lambda: leads[0], lambda: told.append(1))
    task = asyncio.create_task(services.run())
    await asyncio.sleep(10)
    assert cluster.lists == []
    assert services.of(outcome(store)) is None
    leads[0] = True
    await asyncio.sleep(10)
    assert (cluster.lists, len(told)) == (["mail"], 1)
    store.heard(Kind.POLICY, policy("shop"), deleted=False)
    await asyncio.sleep(10)
    assert (cluster.lists, len(told)) == (["mail", "shop"], 2)
    await asyncio.sleep(300)
    assert (cluster.lists, len(told)) == (["mail", "shop", "mail", "shop"], 2)
    task.cancel()
    await asyncio.wait((task,))


@pytest.mark.looptime
async def test_lists_that_fail_are_tried_again_and_told_of_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(policy())
    services = ServiceWatch(cluster, store, lambda: True, lambda: None)
    await services.look(["mail"])
    known = services.of(outcome(store))
    cluster.failing = ApiUnavailable("away")
    task = asyncio.create_task(services.run())
    await asyncio.sleep(310)
    assert len(cluster.lists) > 3
    cluster.failing = ApiRefused(403, "forbidden")
    await asyncio.sleep(10)
    refused = len(cluster.lists)
    await asyncio.sleep(100)
    assert len(cluster.lists) == refused
    assert services.of(outcome(store)) == known
    assert caplog.text.count("Services can't be listed") == 2
    task.cancel()
    await asyncio.wait((task,))


@pytest.mark.parametrize(
    ("spec", "pod", "reason"),
    [
        ({}, "plain-postfix", "AddressLost"),
        ({"listener": {"proxyProtocol": {"trusted": ["192.0.2.0/24"]}}}, "plain-postfix", "Intercepted"),
        ({}, "none", "Bypassed"),
        ({"listener": 7, "upstream": 7}, "none", "Bypassed"),
        ({}, "nonsense-unscreened", "NotInjected"),
        ({}, "already-injected", "NoSidecars"),
    ],
)
async def test_policy_and_pods_of_the_moment_are_judged(
    cluster: Cluster, spec: dict[str, Any], pod: str, reason: str
) -> None:
    store = filled(policy(**spec), pod=pod)
    services = ServiceWatch(cluster, store, lambda: True, lambda: None)
    await services.look(["mail"])
    found = services.of(outcome(store))
    assert found is not None
    assert found.reason.reason == reason
