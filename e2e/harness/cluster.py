"""A real Kubernetes API server: etcd and kube-apiserver on loopback, with RBAC and ServiceAccount tokens.

Contract: `with ApiServer(tools) as api_server:` is ready within seconds (4 s on 2 idle cores) and leaves
nothing behind: no process, no file. All that it needs is in a temporary folder: certificates, etcd's data,
kubeconfigs, logs. The processes also end with the thread that started them (see cluster_process). No
controller-manager, scheduler or kubelet runs; ClusterClient says what that means.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loopback_ports import free_ports

from harness.cluster_certificates import write_certificates
from harness.cluster_client import ApiError, ClusterClient, KubectlError, Pod, wait_for
from harness.cluster_process import LoggedProcess
from harness.toolchain import KubernetesTools

__all__ = ["ApiError", "ApiServer", "KubectlError", "Pod", "StartError", "wait_for"]

START_TIMEOUT = 60.0
"""Seconds until the API server must be ready: 4 s were measured on idle cores; they may be busy."""

SERVICE_RANGE, SERVICE_ADDRESS = "10.96.0.0/24", "10.96.0.1"
"""Kubernetes' customary range of ClusterIPs; nothing routes it here."""

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The customary issuer of ServiceAccount tokens, and the API server's own audience."""


AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""Every request of a ServiceAccount, for a test to see which rights it used."""


class StartError(Exception):
    """etcd or kube-apiserver did not become ready; the text holds the end of their logs."""


class ApiServer(ClusterClient):
    """Start with `with`; the methods are ClusterClient's. `processes` are etcd and kube-apiserver, in this order."""

    def __init__(self, tools: KubernetesTools) -> None:
        self._tools = tools
        self._cleanup = ExitStack()
        self.processes: list[LoggedProcess] = []

    def __enter__(self) -> Self:
        """Raises StartError, OSError."""
        with ExitStack() as cleanup:
            directory = Path(tempfile.mkdtemp(prefix="postwarden-cluster-"))
            cleanup.callback(shutil.rmtree, directory)
            cleanup.callback(self._kill_processes)
            etcd_port, port = free_ports(2)
            write_certificates(directory, SERVICE_ADDRESS)
            super().__init__(directory, f"https://127.0.0.1:{port}", self._tools.kubectl)
            self._etcd = _etcd_command(self._tools, directory, etcd_port)
            self._start(self._etcd)
            (directory / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
            self._apiserver = _apiserver_command(self._tools, directory, etcd_port, port)
            self._start(self._apiserver)
            self._wait_until_ready()
            self.ensure_service_account("default", "default")
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """kube-apiserver is killed for the length of the block; then another serves the same objects at the same address.

        Raises StartError.
        """
        self.processes.pop().kill()
        try:
            yield
        finally:
            self._start(self._apiserver)
            self._wait_until_ready()

    @contextmanager
    def all_away(self) -> Iterator[None]:
        """As `away`, and etcd with it, which keeps what it stored. Raises StartError."""
        with self.away():
            self.processes.pop().kill()
            try:
                yield
            finally:
                self._start(self._etcd)

    def audited(self, service_account: str, namespace: str) -> list[dict[str, Any]]:
        """The requests (audit.k8s.io/v1 Events) that the ServiceAccount has made so far; a watch is there from its beginning."""
        user = f"system:serviceaccount:{namespace}:{service_account}"
        # A last line without its end is still being written.
        lines = (self.directory / "audit.log").read_text().split("\n")[:-1]
        events = [json.loads(line) for line in lines]
        return [event for event in events if event["user"]["username"] == user]

    def logs(self) -> str:
        """The ends of the processes' logs, for a test to show what the servers thought of it."""
        return "\n".join(process.tail() for process in self.processes)

    def _start(self, command: list[str | Path]) -> None:
        log = self.directory / f"{Path(command[0]).name}.log"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.directory)}
        self.processes.append(LoggedProcess(command, log, environment))

    def _kill_processes(self) -> None:
        while self.processes:
            self.processes.pop().kill()

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        try:
            wait_for(self._is_ready, START_TIMEOUT, "the API server")
            # The namespace `default` is made just after the API server has called itself ready.
            wait_for(self._has_default_namespace, end - time.monotonic(), "the namespace `default`")
        except (TimeoutError, ChildProcessError) as error:
            raise StartError(f"{error}\n{self.logs()}") from error

    def _is_ready(self) -> bool:
        for process in self.processes:
            if not process.alive():
                raise ChildProcessError(f"{process.name} ended")
        try:
            self.request("GET", "/readyz")
        except (ApiError, OSError):
            return False
        return True

    def _has_default_namespace(self) -> bool:
        try:
            self.request("GET", "/api/v1/namespaces/default")
        except ApiError:
            return False
        return True


def _etcd_command(tools: KubernetesTools, directory: Path, port: int) -> list[str | Path]:
    url = f"http://127.0.0.1:{port}"
    return [
        tools.etcd,
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",  # no peers: any port
        "--unsafe-no-fsync",  # the data is thrown away at the end
    ]


def _apiserver_command(
    tools: KubernetesTools, directory: Path, etcd_port: int, port: int
) -> list[str | Path]:
    return [
        tools.kube_apiserver,
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # endpoints may not be loopback addresses, and nobody needs them
        f"--secure-port={port}",
        f"--cert-dir={directory}",
        f"--tls-cert-file={directory / 'apiserver.crt'}",
        f"--tls-private-key-file={directory / 'apiserver.key'}",
        f"--client-ca-file={directory / 'ca.crt'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--audit-policy-file={directory / 'audit-policy.json'}",
        f"--audit-log-path={directory / 'audit.log'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={directory / 'service-account.pub'}",
        f"--service-account-signing-key-file={directory / 'service-account.key'}",
    ]
