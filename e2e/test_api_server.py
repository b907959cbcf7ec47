"""The test API server is what other tests need: ready, and with tokens that name a pod if bound to it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness.cluster import ApiError, ApiServer, KubectlError, StartError, wait_for
from harness.toolchain import KubernetesTools

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sieves.harness.test}
spec:
  group: harness.test
  scope: Namespaced
  names: {kind: Sieve, singular: sieve, plural: sieves}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {mesh: {type: integer, minimum: 1}}}}
"""


def test_server_is_ready_and_it_and_kubectl_know_their_version(api_server: ApiServer) -> None:
    assert api_server.kubectl("get", "--raw=/readyz") == "ok"
    # A build without the stamps of its version calls itself v0.0.0-master.
    assert re.findall(r"(Client|Server) Version: v1\.\d+", api_server.kubectl("version")) == [
        "Client",
        "Server",
    ]


def test_bound_token_passes_review_and_names_its_pod(api_server: ApiServer, namespace: str) -> None:
    pod = api_server.create_pod("mta-0", namespace, service_account="mail")
    status = api_server.review_token(api_server.bound_token(pod))
    assert status["authenticated"] is True
    assert status["audiences"] == ["postwarden.dev"]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:mail"
    assert status["user"]["extra"][POD_NAME] == ["mta-0"]
    assert status["user"]["extra"][POD_UID] == [pod.uid]


def test_unbound_token_passes_review_and_names_no_pod(api_server: ApiServer, namespace: str) -> None:
    status = api_server.review_token(api_server.unbound_token("default", namespace))
    assert status["authenticated"] is True
    assert status["audiences"] == ["postwarden.dev"]
    assert not {POD_NAME, POD_UID} & status["user"]["extra"].keys()


def test_token_for_another_audience_fails_review(api_server: ApiServer, namespace: str) -> None:
    pod = api_server.create_pod("mta-0", namespace)
    assert not api_server.review_token(api_server.bound_token(pod, "another.test")).get("authenticated")


def test_token_of_a_deleted_pod_fails_review(api_server: ApiServer, namespace: str) -> None:
    pod = api_server.create_pod("mta-0", namespace)
    token = api_server.bound_token(pod)
    api_server.delete_pod(pod)
    # The API server keeps a good answer for 10 s.
    wait_for(lambda: not api_server.review_token(token).get("authenticated"), 15, "the token's end")


def test_pod_is_reported_running_with_its_sidecar_and_without_its_ended_init_container(
    api_server: ApiServer, namespace: str
) -> None:
    spec = {
        "initContainers": [
            {"name": "setup", "image": "setup"},
            {"name": "screen", "image": "screen", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "mta", "image": "mta"}],
    }
    api_server.create_pod("mta-0", namespace, labels={"app": "mail"}, spec=spec, ip="127.0.0.2")
    found = api_server.get("pod", "mta-0", namespace)
    assert found["metadata"]["labels"] == {"app": "mail"}
    assert (found["status"]["phase"], found["status"]["podIP"]) == ("Running", "127.0.0.2")
    assert "running" in found["status"]["containerStatuses"][0]["state"]
    setup, screen = found["status"]["initContainerStatuses"]
    assert setup["state"]["terminated"]["exitCode"] == 0
    assert "running" in screen["state"]


def test_custom_resource_can_be_applied_right_after_its_definition_and_is_validated(
    api_server: ApiServer, namespace: str
) -> None:
    api_server.apply(CRD)
    sieve = {
        "apiVersion": "harness.test/v1",
        "kind": "Sieve",
        "metadata": {"name": "fine", "namespace": namespace},
    }
    api_server.apply({**sieve, "mesh": 3})
    assert api_server.get("sieve", "fine", namespace)["mesh"] == 3
    with pytest.raises(KubectlError, match=r"mesh.*should be greater than or equal to 1"):
        api_server.apply({**sieve, "mesh": 0})


def test_service_account_has_only_the_rights_that_rbac_grants(api_server: ApiServer, namespace: str) -> None:
    kubeconfig = api_server.kubeconfig_for("reader", namespace)
    with pytest.raises(KubectlError, match="Forbidden"):
        api_server.kubectl("get", "pods", kubeconfig=kubeconfig)
    within = f"--namespace={namespace}"
    api_server.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods", within)
    grant = ["--role=reader", f"--serviceaccount={namespace}:reader"]
    api_server.kubectl("create", "rolebinding", "reader", *grant, within)
    api_server.create_pod("mta-0", namespace)
    found = wait_for(lambda: _allowed(api_server, kubeconfig), 5, "the right to take effect")
    assert found == "pod/mta-0\n"


def _allowed(api_server: ApiServer, kubeconfig: Path) -> str:
    try:
        return api_server.kubectl("get", "pods", "--output=name", kubeconfig=kubeconfig)
    except KubectlError:
        return ""


def test_server_leaves_no_process_port_or_file_behind(kubernetes_binaries: KubernetesTools) -> None:
    with ApiServer(kubernetes_binaries) as server:
        pids = [process.pid for process in server.processes]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        directory, port = server.directory, int(server.url.rpartition(":")[2])
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_killed_test_run_leaves_no_process(kubernetes_binaries: KubernetesTools, tmp_path: Path) -> None:
    script = """
from harness.cluster import ApiServer
from harness.toolchain import kubernetes_tools
with ApiServer(kubernetes_tools()) as server:
    print(*(process.pid for process in server.processes), flush=True)
    input()
"""
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        pids = run.stdout.readline().split()
        run.kill()
    assert len(pids) == 2
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5, "the end of the servers")


def test_failed_start_shows_the_log_of_what_failed(
    kubernetes_binaries: KubernetesTools, tmp_path: Path
) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho the disk is made of cheese >&2\nexit 3\n")
    broken.chmod(0o755)
    tools = KubernetesTools(kubernetes_binaries.etcd, broken, kubernetes_binaries.kubectl)
    with (
        pytest.raises(StartError, match=r"kube-apiserver ended(.|\n)*exited with 3(.|\n)*made of cheese"),
        ApiServer(tools),
    ):
        pass


def test_request_for_what_is_not_there_gives_the_servers_status(api_server: ApiServer) -> None:
    with pytest.raises(ApiError, match='404: namespaces "nowhere" not found'):
        api_server.request("GET", "/api/v1/namespaces/nowhere")
