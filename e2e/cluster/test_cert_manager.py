"""The chart with cert-manager: a real one issues the operator's certificate and hands its CA to the webhook, in a cluster of its own.

cert-manager's controllers run beside that cluster, as one process with an administrator's rights; without its webhook.
"""

import base64
import json
from collections.abc import Iterator

import pytest
from harness.chart import RELEASE, RELEASE_NAMESPACE
from harness.cluster_process import LoggedProcess
from harness.cluster_tools import cert_manager
from harness.foreign_crds import cert_manager_crds
from harness.helm_test import assert_helm_test_passes
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import enforce
from harness.one_node.fixtures import RealCluster, install
from harness.one_node.node import OneNode

SECRET = f"{RELEASE}-tls"
"""The Certificate's, with its CA in it."""

VALUES = """
certManager: {enabled: true}
operator:
  image: {repository: localhost/postwarden-operator, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
sidecar:
  image: {repository: localhost/postwarden-sidecar, tag: test}
  resources: {requests: {cpu: 10m, memory: 64Mi}}
"""


@pytest.fixture(scope="module")
def cluster(real_cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    """Another one: no policies of the other tests have two operators."""
    if not isinstance(real_cluster, OneNode):
        pytest.skip("a cluster of its own can be had beside the tests' own node only")
    with OneNode(real_cluster.binaries, real_cluster.images) as node:
        node.kubectl("apply", "--server-side", *(f"--filename={file}" for file in cert_manager_crds()))
        log = tmp_path_factory.mktemp("cert-manager") / "log"
        process = LoggedProcess(
            [cert_manager(), node.kubeconfig], log, {"PATH": "/usr/bin:/bin", "HOME": str(log.parent)}
        )
        try:
            install(node, VALUES)
            yield node
        finally:
            process.terminate()


def test_certificate_is_issued_and_the_webhook_is_trusted_by_its_ca(cluster: OneNode) -> None:
    certificates = json.loads(
        cluster.kubectl("get", "certificates", f"--namespace={RELEASE_NAMESPACE}", "--output=json")
    )["items"]
    assert {
        each["metadata"]["name"]: [condition["status"] for condition in each["status"]["conditions"]]
        for each in certificates
    } == {"postwarden": ["True"], "postwarden-ca": ["True"]}
    secret = cluster.get("secret", SECRET, RELEASE_NAMESPACE)["data"]
    (webhook,) = cluster.get("mutatingwebhookconfiguration", RELEASE)["webhooks"]
    assert webhook["clientConfig"]["caBundle"] == secret["ca.crt"]
    assert base64.b64decode(secret["ca.crt"]) not in base64.b64decode(secret["tls.crt"])


def test_helm_test_passes(cluster: OneNode) -> None:
    assert_helm_test_passes(cluster)


def test_a_pod_is_injected_and_its_sidecar_gets_its_rules(cluster: OneNode) -> None:
    with MailService(cluster, "mail", replicas=1, handoff="plain") as service:
        (pod,) = service.pods()
        told = service.kubectl("get", "pod", pod, "--output=jsonpath={.spec.initContainers[*].env}")
        authority = base64.b64decode(
            cluster.get("secret", SECRET, RELEASE_NAMESPACE)["data"]["ca.crt"]
        ).decode()
        assert authority.splitlines()[1] in told
        enforce(service, pregreet={"wait": "1s"}, upstream={"port": 25, "handoff": "Plain"})
