"""The programs of a whole Kubernetes node and of its users beside the API server: built from modules of their own.

Contract: as harness/toolchain.py's `built`: made once for each content of the module, kept in the cache. The modules are apart from
e2e/tools/go.mod so that a newer Helm, for instance, builds Helm only.
"""

import re
from pathlib import Path

from harness.toolchain import TOOLS_MODULE, GoModule, built, kubernetes_ldflags

__all__ = ["cert_manager", "coredns_module", "helm", "helm3", "helm_module", "node_module", "pause_module"]


def node_module() -> GoModule:
    """What makes an API server a cluster of one node, at the same release."""
    directory = TOOLS_MODULE / "cluster"
    commands = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    return GoModule(
        directory,
        commands={name: f"k8s.io/kubernetes/cmd/{name}" for name in commands},
        ldflags=kubernetes_ldflags(directory),
    )


def coredns_module() -> GoModule:
    """The cluster's name server."""
    return GoModule(TOOLS_MODULE / "coredns", commands={"coredns": "."})


def pause_module() -> GoModule:
    """The container that holds a pod's namespaces."""
    return GoModule(TOOLS_MODULE / "pause", commands={"pause": "."})


def helm_module() -> GoModule:
    return GoModule(TOOLS_MODULE / "helm", commands={"helm": "helm.sh/helm/v4/cmd/helm"})


def helm() -> Path:
    """Helm 4. Skips or fails as `built` does."""
    return built(helm_module()) / "helm"


def helm3() -> Path:
    """The release before, with which many clusters are kept. Skips or fails as `built` does."""
    return built(helm3_module()) / "helm"


def helm3_module() -> GoModule:
    """The linker tells it which Kubernetes it knows, as Helm's own Makefile does: it takes itself for one of 1.20's time else."""
    directory = TOOLS_MODULE / "helm3"
    pinned = re.search(r"k8s\.io/client-go v0\.(\d+)\.", (directory / "go.mod").read_text())
    if pinned is None:
        raise ValueError(f"{directory / 'go.mod'} requires no release of k8s.io/client-go")
    known = {"k8sVersionMajor": "1", "k8sVersionMinor": pinned[1]}
    stamps = [
        f"-X helm.sh/helm/v3/pkg/{package}.{name}={value}"
        for package in ("chartutil", "lint/rules")
        for name, value in known.items()
    ]
    return GoModule(
        directory, commands={"helm": "helm.sh/helm/v3/cmd/helm"}, ldflags=" ".join(["-s -w", *stamps])
    )


def cert_manager() -> Path:
    """Its controllers and its CA injector: `cert-manager KUBECONFIG`. Skips or fails as `built` does."""
    return built(GoModule(TOOLS_MODULE / "cert-manager", commands={"cert-manager": "."})) / "cert-manager"
