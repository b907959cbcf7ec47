"""`helm test` of the release that is installed in a real cluster."""

from collections.abc import Callable
from pathlib import Path

from harness.chart import RELEASE, RELEASE_NAMESPACE, run_helm
from harness.cluster_client import ClusterClient
from harness.cluster_tools import helm

HOST = f"postwarden.{RELEASE_NAMESPACE}.svc"


def assert_helm_test_passes(cluster: ClusterClient, program: Callable[[], Path] = helm) -> None:
    """Its pod asks operator and webhook by their Service, hears both, and is gone afterwards. Raises HelmRefused, AssertionError."""
    # Helm 3 looks for the logs of a pod that it has removed.
    logs = ("--logs",) if program is helm else ()
    said = run_helm(
        *("test", RELEASE, f"--namespace={RELEASE_NAMESPACE}", *logs, "--timeout=120s"),
        kubeconfig=cluster.kubeconfig,
        program=program,
    )
    assert "Phase:          Succeeded" in said
    if logs:
        assert f"{HOST}:8443 answers" in said
        assert f"{HOST}:443 answers" in said
    left = cluster.kubectl("get", "pods", f"--namespace={RELEASE_NAMESPACE}", "--output=name")
    assert "test" not in left, left
