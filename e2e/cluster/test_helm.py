"""`helm test` in a real cluster: a pod of the operator's image asks the operator and its webhook, by their Services."""

from harness.chart import RELEASE, RELEASE_NAMESPACE, run_helm
from harness.cluster_client import ClusterClient
from harness.one_node.fixtures import RealCluster

HOST = f"postwarden.{RELEASE_NAMESPACE}.svc"


def helm_test(cluster: ClusterClient) -> str:
    """What Helm and the pod say. Raises HelmRefused."""
    return run_helm(
        *("test", RELEASE, f"--namespace={RELEASE_NAMESPACE}", "--logs", "--timeout=50s"),
        kubeconfig=cluster.kubeconfig,
    )


def test_operator_and_webhook_answer(installed: RealCluster) -> None:
    said = helm_test(installed)
    assert "Phase:          Succeeded" in said
    assert f"{HOST}:8443 answers" in said
    assert f"{HOST}:443 answers" in said
    left = installed.kubectl("get", "pods", f"--namespace={RELEASE_NAMESPACE}", "--output=name")
    assert "test" not in left, "it removes itself"
