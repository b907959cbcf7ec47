"""The fixture `one_node`: the cluster of this test run, for e2e/conftest.py to import."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.chart import CHART, RELEASE, RELEASE_NAMESPACE, HelmRefused, run_helm
from harness.cluster_client import ClusterClient, KubectlError, wait_for
from harness.cluster_tools import coredns_module, node_module, pause_module
from harness.given_cluster import GivenCluster, given_kubeconfig
from harness.images import Image, binary_image, project_image
from harness.mail_cluster import client_image, postfix_image
from harness.netns import require_namespaces
from harness.one_node import cgroups
from harness.one_node.node import OneNode
from harness.postfix_fixtures import progress_seen
from harness.toolchain import KubernetesTools, apt_install, built, unavailable

__all__ = ["installed", "one_node", "real_cluster"]

RealCluster = OneNode | GivenCluster
"""With a kubelet: pods run."""

PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "buildah": "buildah",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What a node needs of Debian: a program, and its package."""


@pytest.fixture(scope="session")
def one_node(
    kubernetes_binaries: KubernetesTools, postfix_root: Path, pytestconfig: pytest.Config
) -> Iterator[OneNode]:
    """Shared by all tests of the run that ask for it: use a namespace of your own."""
    require_namespaces()
    if not cgroups.hierarchies():
        unavailable("cgroups of version 1 (this machine has version 2 only)")
    with progress_seen(pytestconfig):
        apt_install([package for program, package in PROGRAMS.items() if shutil.which(program) is None])
        node = built(node_module())
        names = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
        binaries = {
            "etcd": kubernetes_binaries.etcd,
            "kube-apiserver": kubernetes_binaries.kube_apiserver,
            "kubectl": kubernetes_binaries.kubectl,
            **{name: node / name for name in names},
        }
        images = [
            binary_image("postwarden-pause", built(pause_module()) / "pause", key=pause_module().key()),
            binary_image("coredns", built(coredns_module()) / "coredns", key=coredns_module().key()),
            *tested_images(postfix_root),
        ]
    with OneNode(binaries, images) as cluster:
        yield cluster


INJECTION_TIMEOUT = 20.0
"""Seconds; one is usual."""

INSTALL_VALUES = """
operator:
  image: {repository: localhost/postwarden-operator, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
sidecar:
  image: {repository: localhost/postwarden-sidecar, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
"""
"""Small requests: many pods share the node."""


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> RealCluster:
    """The cluster of POSTWARDEN_E2E_KUBECONFIG, else `one_node`; with all images."""
    given = given_kubeconfig()
    if given is None:
        own: OneNode = request.getfixturevalue("one_node")
        return own
    kubectl: KubernetesTools = request.getfixturevalue("kubernetes_binaries")
    cluster = GivenCluster(given, kubectl.kubectl)
    with progress_seen(request.config):
        for image in tested_images(request.getfixturevalue("postfix_root")):
            cluster.load_image(image)
    return cluster


@pytest.fixture(scope="session")
def installed(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """The cluster, with Postwarden installed by Helm as a user does it: two replicas of the operator."""
    install(real_cluster)
    yield real_cluster
    if isinstance(real_cluster, GivenCluster):
        uninstall(real_cluster)


def tested_images(postfix_root: Path) -> list[Image]:
    """Ours, the mail server's and its clients'."""
    return [project_image("operator"), project_image("sidecar"), postfix_image(postfix_root), client_image()]


def uninstall(cluster: RealCluster) -> None:
    """`helm uninstall`. Raises HelmRefused."""
    run_helm("uninstall", RELEASE, "--namespace", RELEASE_NAMESPACE, "--wait", kubeconfig=cluster.kubeconfig)


def install(cluster: RealCluster) -> None:
    """`helm install`. Raises HelmRefused with what Helm and the operator's pods say."""
    where = ("--namespace", RELEASE_NAMESPACE, "--create-namespace")
    wait = ("--wait", "--timeout", "50s")
    try:
        run_helm(
            *("upgrade", "--install", RELEASE, CHART, *where, "--values", "-", *wait),
            kubeconfig=cluster.kubeconfig,
            stdin=INSTALL_VALUES,
        )
    except HelmRefused as error:
        told = cluster.kubectl("describe", "pods", f"--namespace={RELEASE_NAMESPACE}")[-4000:]
        raise HelmRefused(f"{error}\n{told}\n{cluster.logs()}") from error
    wait_for(lambda: _injects(cluster), INJECTION_TIMEOUT, "the webhook, by way of its Service")


def _injects(cluster: ClusterClient) -> bool:
    """Whether a pod would get a sidecar now. The operator is ready a moment before its Service leads to it, and the webhook fails open."""
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
    try:
        would_be = cluster.kubectl(
            "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(pod)
        )
    except KubectlError:
        # The namespace's ServiceAccount is not there yet.
        return False
    return "postwarden-sidecar" in would_be
