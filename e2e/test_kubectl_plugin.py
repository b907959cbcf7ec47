"""`kubectl postwarden status` against a real API server, run by kubectl as its plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.cluster import ApiServer
from harness.operator_process import OperatorProcess
from harness.screening_objects import mail_pod, policy, reject, wait_for_reasons
from harness.stream_client import StreamClient
from harness.toolchain import KubernetesTools

BIN = Path(sys.executable).parent


def status(tools: KubernetesTools, kubeconfig: Path, *arguments: str) -> tuple[int, Any, str]:
    """As a user calls it: kubectl finds the plugin on the PATH."""
    run = subprocess.run(
        [tools.kubectl, "postwarden", "status", *arguments],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return run.returncode, json.loads(run.stdout) if run.stdout else None, run.stderr


def test_status_tells_the_conditions_and_whether_all_is_well(
    kubernetes_binaries: KubernetesTools, api_server: ApiServer, namespace: str, operator: OperatorProcess
) -> None:
    pod = mail_pod(api_server, namespace)
    token = api_server.bound_token(pod)
    with StreamClient(operator.address, operator.ca_pem, token) as sidecar:
        assert sidecar.receive().WhichOneof("message") == "unmanaged"
        api_server.apply(
            policy("wall", namespace, access=reject("192.0.2.0/24"), upstream={"handoff": "ProxyV2"})
        )
        snapshot = sidecar.snapshot(5.0)
        wait_for_reasons(api_server, "wall", namespace, Programmed="False/Pending")
        code, rows, _ = status(kubernetes_binaries, api_server.kubeconfig, "-n", namespace)
        assert (code, rows[0]["policy"], rows[0]["well"]) == (1, f"{namespace}/wall", False)
        sidecar.ack(snapshot)
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        code, rows, _ = status(kubernetes_binaries, api_server.kubeconfig, "wall", "-n", namespace)
    assert code == 0
    assert rows[0]["sidecars"]["summary"] == "1/1"
    assert {each["type"]: each["reason"] for each in rows[0]["conditions"]} == {
        "Accepted": "Valid",
        "ResolvedRefs": "Resolved",
        "Programmed": "Synced",
        "DNSBLHealthy": "NoSites",
        "Intercepted": "NoSidecars",  # whose port is known: this one is a stream of the test's
    }


def test_a_policy_that_is_not_there_is_one_sentence_and_exit_code_2(
    kubernetes_binaries: KubernetesTools, api_server: ApiServer, namespace: str, operator: OperatorProcess
) -> None:
    code, rows, said = status(kubernetes_binaries, api_server.kubeconfig, "nobody", "-n", namespace)
    assert (code, rows) == (2, None)
    assert 'screeningpolicies.postwarden.dev "nobody" not found' in said
    assert len(said.splitlines()) == 1


def test_without_a_cluster_it_says_where_it_looked(
    kubernetes_binaries: KubernetesTools, tmp_path: Path
) -> None:
    code, rows, said = status(kubernetes_binaries, tmp_path / "none")
    assert (code, rows) == (2, None)
    assert str(tmp_path / "none") in said
