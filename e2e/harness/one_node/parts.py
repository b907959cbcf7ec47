"""What a node is made of: Debian's programs, the binaries that are built, and the images of all its pods.

Contract: made once and kept in the cache; each process of a test run looks once. `prepare` makes them before the first test, for a cold
build takes longer than a test may. Skips or fails by `unavailable`, naming what is missing.
"""

import shutil
from functools import cache
from pathlib import Path

from harness.cluster_jaeger import jaeger_image
from harness.cluster_tools import cert_manager, coredns_module, helm, helm3, node_module, pause_module
from harness.debian_package import unpacked
from harness.documented_service import busybox_image, exim_image, opensmtpd_image
from harness.given_cluster import given_kubeconfig
from harness.images import Image, binary_image, project_image
from harness.mail_cluster import postfix_image
from harness.mail_server_fixtures import make_exim_root, make_opensmtpd_root
from harness.netns import require_namespaces
from harness.one_node import cgroups
from harness.postfix_fixtures import make_postfix_root
from harness.toolchain import apt_install, built, kubernetes_tools, unavailable

PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "buildah": "buildah",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What a node needs of Debian: a program, and its package."""


def prepare() -> None:
    """All that tests in a real cluster need."""
    helm()
    helm3()
    if given_kubeconfig() is None:
        cert_manager()
        node_parts()
    else:
        tested_images()


@cache
def node_parts() -> tuple[dict[str, Path], list[Image]]:
    """Binaries by name, and the images that the node has from its start."""
    require_namespaces()
    if not cgroups.hierarchies():
        unavailable(
            "cgroups of version 1 (this machine has version 2 only); "
            "with POSTWARDEN_E2E_KUBECONFIG the tests run in a cluster that you have"
        )
    apt_install([package for program, package in PROGRAMS.items() if shutil.which(program) is None])
    tools, node = kubernetes_tools(), node_module()
    binaries = {
        "etcd": tools.etcd,
        "kube-apiserver": tools.kube_apiserver,
        "kubectl": tools.kubectl,
        **{name: built(node) / name for name in node.commands},
    }
    pause, name_server = pause_module(), coredns_module()
    images = [
        binary_image("postwarden-pause", built(pause) / "pause", key=pause.key()),
        binary_image("coredns", built(name_server) / "coredns", key=name_server.key()),
    ]
    return binaries, images + tested_images()


@cache
def tested_images() -> list[Image]:
    """Ours, the mail servers' and Jaeger's, and a client's."""
    return [
        project_image("operator"),
        project_image("sidecar"),
        postfix_image(make_postfix_root()),
        exim_image(make_exim_root()),
        opensmtpd_image(make_opensmtpd_root()),
        busybox_image(unpacked("busybox-static")),
        jaeger_image(),
    ]
