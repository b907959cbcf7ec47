"""The chart on a real API server: taken as it is, upgraded, uninstalled; and an operator that runs with what the chart gives it.

No kubelet runs here; the pods themselves are the cluster tests' story.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.chart import (
    CHART,
    RELEASE,
    RELEASE_NAMESPACE,
    HelmRefused,
    documents,
    rendered,
    run_helm,
)
from harness.cluster import ApiError, ApiServer, wait_for
from harness.cluster_process import LoggedProcess
from harness.cluster_tools import helm3
from harness.foreign_crds import foreign_crds
from harness.operator_authority import AuthorityOperator
from harness.operator_process import ACCOUNT, CRD, NAMESPACE
from harness.screening_objects import policy
from harness.toolchain import KubernetesTools
from loopback_ports import free_port

SETS = Path(__file__).parent / "chart"
VALUES = sorted(SETS.glob("*.values.yaml"))
POLICIES = "/apis/postwarden.dev/v1alpha1/namespaces/{}/screeningpolicies"


@pytest.fixture(scope="module")
def cluster(kubernetes_binaries: KubernetesTools) -> Iterator[ApiServer]:
    """An API server of its own: what lies in the shared one was not put there by Helm, which does not take it over."""
    with ApiServer(kubernetes_binaries) as started:
        started.kubectl("apply", "--server-side", *(f"--filename={file}" for file in foreign_crds()))
        for name in ("mail", "mail-eu"):
            started.create_namespace(name)
        started.create_namespace(RELEASE_NAMESPACE, {"pod-security.kubernetes.io/enforce": "restricted"})
        yield started


def helm(cluster: ApiServer, command: str, *arguments: str | Path, values: str = "{}") -> str:
    """For the release. Raises HelmRefused."""
    options = [command, RELEASE, *arguments, "--namespace", RELEASE_NAMESPACE]
    options += ["--values", "-"] if command in {"install", "upgrade"} else []
    return run_helm(*options, kubeconfig=cluster.kubeconfig, stdin=values)


@pytest.fixture
def released(cluster: ApiServer) -> Iterator[ApiServer]:
    """The chart is installed, and gone afterwards."""
    helm(cluster, "install", CHART)
    yield cluster
    if RELEASE in run_helm("list", "--short", "-n", RELEASE_NAMESPACE, kubeconfig=cluster.kubeconfig):
        helm(cluster, "uninstall")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_api_server_takes_every_object_and_knows_every_field(cluster: ApiServer, values: Path) -> None:
    text = rendered(values.read_text())
    answer = cluster.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "--output=name", "--filename=-"), stdin=text
    )
    assert len(answer.split()) == len(documents(text))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_operators_pod_is_one_that_a_restricted_namespace_admits(cluster: ApiServer, values: Path) -> None:
    objects = documents(rendered(values.read_text()))
    account = next(each for each in objects if each["kind"] == "ServiceAccount")["metadata"]["name"]
    cluster.ensure_service_account(account, RELEASE_NAMESPACE)
    template = next(each for each in objects if each["kind"] == "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = "as-the-deployment-makes-it"
    created = cluster.request("POST", f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods?dryRun=All", pod)
    assert created["spec"]["serviceAccountName"] == account
    cluster.kubectl("delete", "serviceaccount", account, f"--namespace={RELEASE_NAMESPACE}")


def policy_names(cluster: ApiServer, namespace: str) -> list[str]:
    found = cluster.request("GET", POLICIES.format(namespace))
    return [each["metadata"]["name"] for each in found["items"]]


def columns(cluster: ApiServer) -> list[str]:
    """Of `kubectl get spol`: a part of the CRD."""
    crd = cluster.get("crd", "screeningpolicies.postwarden.dev")
    return [each["name"] for each in crd["spec"]["versions"][0]["additionalPrinterColumns"]]


def test_policies_outlive_upgrade_and_uninstall_and_are_there_for_the_next_release(
    released: ApiServer, namespace_of_mail: str
) -> None:
    released.apply(policy("wall", namespace_of_mail))
    helm(released, "upgrade", CHART, values="operator: {replicas: 3}")
    assert released.get("deployment", "postwarden-operator", RELEASE_NAMESPACE)["spec"]["replicas"] == 3
    assert policy_names(released, namespace_of_mail) == ["wall"]
    helm(released, "upgrade", CHART, values="crds: {install: false}")
    assert policy_names(released, namespace_of_mail) == ["wall"]
    helm(released, "uninstall")
    assert policy_names(released, namespace_of_mail) == ["wall"]
    with pytest.raises(ApiError) as gone:
        released.request(
            "GET", f"/apis/apps/v1/namespaces/{RELEASE_NAMESPACE}/deployments/postwarden-operator"
        )
    assert gone.value.status == 404
    helm(released, "install", CHART)
    assert policy_names(released, namespace_of_mail) == ["wall"]


@pytest.fixture
def namespace_of_mail(cluster: ApiServer, request: pytest.FixtureRequest) -> str:
    name = f"mail-{abs(hash(request.node.name)) % 10**8}"
    cluster.create_namespace(name)
    return name


def test_a_release_of_helm_3_is_upgraded_by_helm_4_and_uninstalled_by_helm_3(
    cluster: ApiServer, namespace_of_mail: str
) -> None:
    where = ("--namespace", RELEASE_NAMESPACE)
    run_helm("install", RELEASE, CHART, *where, kubeconfig=cluster.kubeconfig, program=helm3)
    cluster.apply(policy("wall", namespace_of_mail))
    helm(cluster, "upgrade", CHART, values="operator: {replicas: 3}")
    assert cluster.get("deployment", "postwarden-operator", RELEASE_NAMESPACE)["spec"]["replicas"] == 3
    run_helm(
        *("upgrade", RELEASE, CHART, *where, "--set", "operator.replicas=4"),
        kubeconfig=cluster.kubeconfig,
        program=helm3,
    )
    assert cluster.get("deployment", "postwarden-operator", RELEASE_NAMESPACE)["spec"]["replicas"] == 4
    run_helm("uninstall", RELEASE, *where, kubeconfig=cluster.kubeconfig, program=helm3)
    assert policy_names(cluster, namespace_of_mail) == ["wall"]
    assert "postwarden" not in cluster.kubectl("get", "clusterroles", "--output=name")


def test_upgrade_brings_the_newer_crd(cluster: ApiServer, tmp_path: Path) -> None:
    older = tmp_path / "postwarden"
    subprocess.run(["cp", "-r", CHART, older], check=True)
    crd = older / "templates" / "crd.yaml"
    crd.write_text(crd.read_text().replace("- name: Revision\n", "- name: Edition\n"))
    metadata = older / "Chart.yaml"
    metadata.write_text(metadata.read_text().replace("ersion: 0.1.0", "ersion: 0.0.9"))
    helm(cluster, "upgrade", "--install", older)
    assert "Edition" in columns(cluster)
    helm(cluster, "upgrade", CHART)
    assert "Revision" in columns(cluster)
    assert "Edition" not in columns(cluster)
    helm(cluster, "uninstall")


def test_upgrade_leaves_the_ca_bundle_that_the_operator_wrote(released: ApiServer) -> None:
    where = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/postwarden"
    bundle = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "UE9TVFdBUkRFTg=="}]
    released.kubectl(
        *(
            "patch",
            "mutatingwebhookconfiguration",
            "postwarden",
            "--type=json",
            f"--patch={json.dumps(bundle)}",
        )
    )
    helm(released, "upgrade", CHART, values="webhook: {timeoutSeconds: 7}")
    (webhook,) = released.request("GET", where)["webhooks"]
    assert webhook["timeoutSeconds"] == 7
    assert webhook["clientConfig"]["caBundle"] == "UE9TVFdBUkRFTg=="


def test_namespace_that_is_not_there_is_named(cluster: ApiServer) -> None:
    with pytest.raises(HelmRefused, match='namespaces "nowhere" not found'):
        helm(cluster, "upgrade", "--install", CHART, values="secretNamespaces: [nowhere]")
    helm(cluster, "uninstall")


def may(cluster: ApiServer, user: str, verb: str, resource: str, namespace: str) -> bool:
    review = {
        "spec": {
            "user": user,
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "resource": resource,
                "group": "postwarden.dev" if resource == "screeningpolicies" else "",
            },
        }
    }
    answer = cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def test_operator_may_get_secrets_of_the_namespaces_that_are_named_and_of_no_other(
    released: ApiServer,
) -> None:
    account = f"system:serviceaccount:{RELEASE_NAMESPACE}:postwarden-operator"
    helm(released, "upgrade", CHART, values="secretNamespaces: [mail]")
    wait_for(lambda: may(released, account, "get", "secrets", "mail"), 5.0, "the right")
    assert not may(released, account, "list", "secrets", "mail")
    assert not may(released, account, "get", "secrets", "mail-eu")
    helm(released, "upgrade", CHART, values="secretNamespaces: [mail-eu]")
    wait_for(lambda: not may(released, account, "get", "secrets", "mail"), 5.0, "the right to be gone")
    assert may(released, account, "get", "secrets", "mail-eu")


def test_who_may_edit_a_namespace_may_edit_its_policies(released: ApiServer) -> None:
    """No controller runs that aggregates: so the roles themselves are bound."""
    for role, verbs in (
        ("view", {"get", "list", "watch"}),
        ("edit", {"create", "update", "patch", "delete"}),
    ):
        found = released.get("clusterrole", f"postwarden-{role}")
        assert found["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"
        assert found["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
        user = f"{role}er"
        binding = ("create", "rolebinding", role, f"--clusterrole=postwarden-{role}", f"--user={user}")
        released.kubectl(*binding, "--namespace=mail")
        wait_for(
            lambda user=user, verbs=verbs: all(  # type: ignore[misc]  # mypy knows no defaults of a lambda
                may(released, user, verb, "screeningpolicies", "mail") for verb in verbs
            ),
            5.0,
            "the rights",
        )
        assert not may(released, user, "get", "secrets", "mail")
        released.kubectl("delete", "rolebinding", role, "--namespace=mail")


def ask(operator: AuthorityOperator, ca: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """What `helm test` runs."""
    environment = {**os.environ, "CONTROL": operator.address, "CA": str(ca), "PATIENCE": "0", **more}
    program = CHART / "files" / "answers.py"
    return subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=60
    )


def test_helm_test_tells_an_operator_that_answers_from_one_that_does_not(
    api_server: ApiServer, tmp_path: Path
) -> None:
    with AuthorityOperator(api_server) as operator:
        (tmp_path / "ca.crt").write_bytes(operator.ca_pem)
        wait_for(lambda: ask(operator, tmp_path / "ca.crt").returncode == 0, 20.0, "the test to pass")
        other = ask(operator, api_server.ca_file)
        assert other.returncode == 1
        assert "UNAVAILABLE" in other.stderr
        operator.process.kill()
        gone = ask(operator, tmp_path / "ca.crt")
        assert gone.returncode == 1
        assert f"the operator at {operator.address}: UNAVAILABLE" in gone.stderr


CONFIGURATION = "MutatingWebhookConfiguration"


@contextmanager
def applied(api_server: ApiServer, manifest: Mapping[str, Any]) -> Iterator[None]:
    """As long as the block lasts."""
    api_server.apply(manifest)
    try:
        yield
    finally:
        api_server.kubectl("delete", manifest["kind"], manifest["metadata"]["name"])


def environment_of_the_chart() -> dict[str, str]:
    """The operator's container's, by default."""
    deployment = next(each for each in documents(rendered()) if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


class OperatorOfTheChart(AuthorityOperator):
    """Started as its container is: with the chart's variables, but for addresses and the token's file, which are another here."""

    def start(self) -> None:
        token = self._directory / "peers-token"
        token.write_text(self._api_server.unbound_token(ACCOUNT, NAMESPACE, "peers.postwarden.dev"))
        self.health, self.webhook = (f"127.0.0.1:{free_port()}" for _ in range(2))
        places = {
            "postwarden.postwarden-system.svc": "127.0.0.1",
            "postwarden-peers.postwarden-system.svc": "127.0.0.1",
            "0.0.0.0:8443": self.address,
            "0.0.0.0:8081": self.health,
            "0.0.0.0:9443": self.webhook,
            "0.0.0.0:8080": f"127.0.0.1:{free_port()}",
            "/var/run/secrets/postwarden-peers/token": str(token),
        }
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._directory),
            "KUBECONFIG": str(self._kubeconfig),
        }
        for name, value in environment_of_the_chart().items():
            for given, own in places.items():
                value = value.replace(given, own)
            environment[name] = value
        self.process = LoggedProcess([self.program, "run"], self._directory / "operator.log", environment)

    def ready(self) -> bool:
        """What kubelet asks."""
        try:
            with urllib.request.urlopen(f"http://{self.health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def test_operator_works_with_what_the_chart_gives_it_and_nothing_else(
    api_server: ApiServer, tmp_path: Path
) -> None:
    (configuration,) = (each for each in documents(rendered()) if each["kind"] == CONFIGURATION)
    with applied(api_server, configuration), OperatorOfTheChart(api_server) as operator:
        wait_for(operator.ready, 20.0, "readiness")
        written = json.loads(api_server.kubectl("get", CONFIGURATION, "postwarden", "--output=json"))
        assert all(each["clientConfig"]["caBundle"] for each in written["webhooks"])
        (tmp_path / "ca.crt").write_bytes(operator.ca_pem)
        answer = ask(operator, tmp_path / "ca.crt", WEBHOOK=operator.webhook)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout == f"{operator.address} answers\n{operator.webhook} answers\n"
        elsewhere = ask(operator, tmp_path / "ca.crt", WEBHOOK=operator.health)
        assert elsewhere.returncode == 1
        assert f"the webhook at {operator.health}: " in elsewhere.stderr
        assert operator.stop() == 0


def test_crd_that_was_applied_by_hand_is_taken_over_on_request(kubernetes_binaries: KubernetesTools) -> None:
    with ApiServer(kubernetes_binaries) as cluster:
        cluster.apply(CRD)
        cluster.create_namespace(RELEASE_NAMESPACE)
        cluster.apply(policy("wall", "default"))
        with pytest.raises(HelmRefused, match=r"screeningpolicies\.postwarden\.dev"):
            helm(cluster, "install", CHART)
        helm(cluster, "upgrade", "--install", "--take-ownership", CHART)
        assert policy_names(cluster, "default") == ["wall"]
