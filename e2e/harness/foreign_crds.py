"""CustomResourceDefinitions of cert-manager and the Prometheus operator, as their own releases have them.

Contract: `foreign_crds` gives files out of the Go modules that e2e/tools/crds pins, `cert_manager_crds` all of the cert-manager that
e2e/tools/cert-manager pins; Go fetches them once and checks them against go.sum.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.toolchain import TOOLS_MODULE, unavailable

CERT_MANAGER = "github.com/cert-manager/cert-manager"

FILES = {
    CERT_MANAGER: (
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator": tuple(
        f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
        for plural in ("podmonitors", "prometheusrules", "servicemonitors")
    ),
}
"""Paths in each module."""

FETCH_TIMEOUT = 300.0
"""Seconds for 8 MB."""


def foreign_crds() -> list[Path]:
    """Those of the kinds that the chart has. Skips or fails as `_fetched` does."""
    folders = _fetched(TOOLS_MODULE / "crds", *FILES)
    return [folders[module] / file for module, files in FILES.items() for file in files]


def cert_manager_crds() -> list[Path]:
    """All of its kinds. Skips or fails as `_fetched` does."""
    (folder,) = _fetched(TOOLS_MODULE / "cert-manager", CERT_MANAGER).values()
    return sorted((folder / "deploy" / "crds").glob("*.yaml"))


def _fetched(pinning: Path, *modules: str) -> dict[str, Path]:
    """The modules' folders, at the versions that `pinning` has. Skips or fails by `unavailable` where Go is missing; fails the test, with
    Go's words, where it can't have the modules."""
    if shutil.which("go") is None:
        unavailable("Go, which fetches CustomResourceDefinitions of others (no `go` in PATH)")
    command = ["go", "mod", "download", "-json", *modules]
    done = subprocess.run(command, cwd=pinning, capture_output=True, text=True, timeout=FETCH_TIMEOUT)
    if done.returncode != 0:
        pytest.fail(f"`go mod download` in {pinning} failed:\n{done.stdout}{done.stderr}", pytrace=False)
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), {}
    while text:
        module, end = decoder.raw_decode(text)
        found[module["Path"]] = Path(module["Dir"])
        text = text[end:].strip()
    return found
