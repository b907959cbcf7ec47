"""The fixtures of a real cluster, and of Postwarden installed in it, for e2e/conftest.py to import."""

import json
from collections.abc import Iterator

import pytest

from harness.chart import CHART, RELEASE, RELEASE_NAMESPACE, HelmRefused, run_helm
from harness.cluster_client import ClusterClient, KubectlError, wait_for
from harness.cluster_jaeger import ENDPOINT, ClusterJaeger
from harness.given_cluster import GivenCluster, given_kubeconfig
from harness.one_node.node import OneNode
from harness.one_node.parts import node_parts, tested_images
from harness.postfix_fixtures import progress_seen
from harness.toolchain import kubernetes_tools

__all__ = ["cluster_jaeger", "installed", "one_node", "real_cluster"]

RealCluster = OneNode | GivenCluster
"""With a kubelet: pods run."""


@pytest.fixture(scope="session")
def one_node(pytestconfig: pytest.Config) -> Iterator[OneNode]:
    """Shared by all tests of the run that ask for it: use a namespace of your own."""
    if given_kubeconfig() is not None:
        pytest.skip("the tests run in a cluster that was given, and start none")
    with progress_seen(pytestconfig):
        binaries, images = node_parts()
    with OneNode(binaries, images) as cluster:
        yield cluster


INJECTION_TIMEOUT = 60.0
"""Seconds; one is usual."""

OPERATOR_TIMEOUT = 90.0
"""Seconds until all replicas are ready; ten are usual."""

INSTALL_VALUES = """
operator:
  image: {repository: localhost/postwarden-operator, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
  otlpEndpoint: ENDPOINT
sidecar:
  image: {repository: localhost/postwarden-sidecar, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
  otlpEndpoint: ENDPOINT
""".replace("ENDPOINT", ENDPOINT)
"""Small requests: many pods share the node."""


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> RealCluster:
    """The cluster of POSTWARDEN_E2E_KUBECONFIG, else `one_node`; with all images."""
    given = given_kubeconfig()
    if given is None:
        own: OneNode = request.getfixturevalue("one_node")
        return own
    with progress_seen(request.config):
        cluster = GivenCluster(given, kubernetes_tools().kubectl)
        for image in tested_images():
            cluster.load_image(image)
    return cluster


@pytest.fixture(scope="session")
def cluster_jaeger(real_cluster: RealCluster) -> ClusterJaeger:
    """The Jaeger in the cluster, to which all of Postwarden there sends."""
    jaeger = ClusterJaeger(real_cluster)
    jaeger.deploy()
    return jaeger


@pytest.fixture(scope="session")
def installed(real_cluster: RealCluster, cluster_jaeger: ClusterJaeger) -> Iterator[RealCluster]:
    """The cluster, with Postwarden installed by Helm as a user does it: two replicas of the operator."""
    install(real_cluster)
    yield real_cluster
    if isinstance(real_cluster, GivenCluster):
        uninstall(real_cluster)


def uninstall(cluster: ClusterClient) -> None:
    """`helm uninstall`. Raises HelmRefused."""
    run_helm("uninstall", RELEASE, "--namespace", RELEASE_NAMESPACE, "--wait", kubeconfig=cluster.kubeconfig)


def install(cluster: ClusterClient, values: str = INSTALL_VALUES) -> None:
    """`helm install`. Raises HelmRefused with what Helm and the operator's pods say."""
    where = ("--namespace", RELEASE_NAMESPACE, "--create-namespace")
    wait = ("--wait", "--timeout", "120s")
    try:
        run_helm(
            *("upgrade", "--install", RELEASE, CHART, *where, "--values", "-", *wait),
            kubeconfig=cluster.kubeconfig,
            stdin=values,
        )
    except HelmRefused as error:
        told = cluster.kubectl("describe", "pods", f"--namespace={RELEASE_NAMESPACE}")[-4000:]
        raise HelmRefused(f"{error}\n{told}\n{cluster.logs()}") from error
    wait_until_it_injects(cluster)


def wait_until_operator_serves(cluster: ClusterClient) -> None:
    """All its replicas are ready, and the webhook is reached by its Service. Raises TimeoutError."""

    def available() -> bool:
        found = cluster.deployment(f"{RELEASE}-operator", RELEASE_NAMESPACE)
        wanted, ready = found["spec"]["replicas"], found["status"].get("readyReplicas", 0)
        return bool(
            found["status"]["observedGeneration"] >= found["metadata"]["generation"] and wanted == ready
        )

    wait_for(available, OPERATOR_TIMEOUT, "the operator's replicas")
    wait_until_it_injects(cluster)


def wait_until_it_injects(cluster: ClusterClient) -> None:
    """A pod would get a sidecar now. The operator is ready a moment before its Service leads to it, and the webhook fails open. Raises
    TimeoutError."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "injection-tried", "labels": {"postwarden.dev/injection": "enabled"}},
        }
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "tried",
            "namespace": "injection-tried",
            "labels": {"postwarden.dev/inject": "true"},
        },
        "spec": {
            "containers": [{"name": "mta", "image": "mta", "ports": [{"name": "smtp", "containerPort": 25}]}]
        },
    }

    def injects() -> bool:
        try:
            would_be = cluster.kubectl(
                "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(pod)
            )
        except KubectlError:
            # The namespace's ServiceAccount is not there yet.
            return False
        return "postwarden-sidecar" in would_be

    wait_for(injects, INJECTION_TIMEOUT, "the webhook, by way of its Service")
