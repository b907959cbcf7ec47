"""The fixture `one_node`: the cluster of this test run, for e2e/conftest.py to import."""

import shutil
from collections.abc import Iterator

import pytest

from harness.cluster_tools import coredns_module, node_module, pause_module
from harness.images import binary_image, project_image
from harness.netns import require_namespaces
from harness.one_node import cgroups
from harness.one_node.node import OneNode
from harness.postfix_fixtures import progress_seen
from harness.toolchain import KubernetesTools, apt_install, built, unavailable

__all__ = ["one_node"]

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
def one_node(kubernetes_binaries: KubernetesTools, pytestconfig: pytest.Config) -> Iterator[OneNode]:
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
            project_image("operator"),
            project_image("sidecar"),
        ]
    with OneNode(binaries, images) as cluster:
        yield cluster
