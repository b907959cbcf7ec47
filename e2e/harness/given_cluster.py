"""A cluster that the developer has already: kind's on a laptop, or any other whose kubeconfig POSTWARDEN_E2E_KUBECONFIG names.

Contract: as ClusterClient, by kubectl alone and with that kubeconfig's rights. Images are loaded by `kind load` where the context is
kind's; elsewhere the nodes must have them under their names (localhost/postwarden-operator:test and so on). There are no clients outside
pods.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.cluster_client import ApiError, ClusterClient, Json, KubectlError
from harness.images import Image

VARIABLE = "POSTWARDEN_E2E_KUBECONFIG"

LOAD_TIMEOUT = 200.0
"""Seconds for one image."""


class GivenCluster(ClusterClient):
    can_reach_pods = False

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="postwarden-given-cluster-"))
        self.kubeconfig = kubeconfig
        self._kubectl_binary = kubectl

    def request(
        self, method: str, path: str, body: Json | None = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """GET only. Raises ApiError for whatever kubectl refuses."""
        if method != "GET":
            raise ValueError(f"{method} {path}: kubectl's raw requests are for reading")
        try:
            answer = json.loads(self.kubectl("get", f"--raw={path}"))
        except (KubectlError, ValueError) as error:
            raise ApiError(0, str(error)) from error
        return answer if isinstance(answer, dict) else {}

    def kubeconfig_for(self, service_account: str, namespace: str = "default", seconds: int = 3600) -> Path:
        """As ClusterClient's, by kubectl alone."""
        account = {"name": service_account, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        told = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json")
        token = self.kubectl(
            *("create", "token", service_account, f"--namespace={namespace}", f"--duration={seconds}s")
        )
        config = json.loads(told)
        config["users"][0]["user"] = {"token": token.strip()}
        path = self.directory / f"{namespace}.{service_account}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def load_image(self, image: Image) -> None:
        """Fails the test where `kind load` fails."""
        context = self.kubectl("config", "current-context").strip()
        if not context.startswith("kind-"):
            return
        if shutil.which("kind") is None:
            pytest.fail(f"the context {context} is kind's, and `kind` is not in PATH", pytrace=False)
        command = [
            "kind",
            "load",
            "image-archive",
            str(image.archive),
            "--name",
            context.removeprefix("kind-"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT)
        if done.returncode != 0:
            pytest.fail(f"`{' '.join(command)}` failed:\n{done.stderr}", pytrace=False)


def given_kubeconfig() -> Path | None:
    """Fails the test where the variable names no file."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    if not Path(named).is_file():
        pytest.fail(f"{VARIABLE}={named}: there is no such file", pytrace=False)
    return Path(named).resolve()
