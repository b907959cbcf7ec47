"""The operator as a process of its own, with a ServiceAccount that has only the rights that the chart gives it.

Contract: `with OperatorProcess(api_server) as operator:` has the CRD in the cluster and serves sidecars at
`address` with a certificate that `ca_pem` vouches for.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from loopback_ports import free_port

from harness.chart import RELEASE_NAMESPACE, operator_rights
from harness.cluster import ApiError, ApiServer, wait_for
from harness.cluster_process import LoggedProcess
from harness.quick_batches import QUICK_BATCHES
from harness.stream_client import StreamClient

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "postwarden.dev_screeningpolicies.yaml"
NAMESPACE, ACCOUNT = RELEASE_NAMESPACE, "postwarden-operator"

STOP_TIMEOUT = 10.0
"""Seconds from SIGTERM to its end."""

START_TIMEOUT = 30.0
"""Seconds until it has read the cluster and serves; 2 s are usual."""


class OperatorProcess:
    """`process` is the running one; `restart` ends it and starts another at the same address.

    options: further ones of the command line. port: to listen on; None: any. tls: the folder of its certificates; None: its own.
    `program`: that is started.
    """

    host = "127.0.0.1"
    program = Path(sys.executable).with_name("postwarden-operator")

    def __init__(
        self,
        api_server: ApiServer,
        *,
        options: Sequence[str] = (),
        port: int | None = None,
        tls: Path | None = None,
    ) -> None:
        self._api_server = api_server
        self._options = tuple(options)
        self._port = port
        self._tls = tls
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Raises StartError of the API server's kind: KubectlError, TimeoutError with the end of the log."""
        self._directory = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory()))
        self._api_server.apply(CRD)
        # A new CRD is established before its storage is ready: then every request is answered 429 for a while.
        wait_for(self._policies_can_be_listed, START_TIMEOUT, "the storage of policies")
        self._api_server.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}")
        self._kubeconfig = self._make_kubeconfig()
        self._api_server.apply(operator_rights())
        self._tls_directory = self._tls or self._directory
        self.port = self._port or free_port()
        self.address = f"{self.host}:{self.port}"
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._cleanup.close()

    def start(self) -> None:
        """Raises TimeoutError, with the end of its log."""
        self.launch()
        self.wait_until_it_serves()

    def launch(self) -> None:
        """Start it, and do not wait for what it does."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._directory),
            "KUBECONFIG": str(self._kubeconfig),
            **QUICK_BATCHES,
        }
        command = self._command()
        self.process = LoggedProcess(command, self._directory / "operator.log", environment)

    def wait_until_it_serves(self) -> None:
        """Raises TimeoutError, with the end of its log."""
        self.process.wait_until(self._serves, START_TIMEOUT, "serving")

    def _command(self) -> list[str | Path]:
        return [
            *(self.program, "run", f"--listen={self.address}", f"--self-signed-dir={self._tls_directory}"),
            *(f"--self-signed-name={self.host}", *self._options),
        ]

    def _make_kubeconfig(self) -> Path:
        return self._api_server.kubeconfig_for(ACCOUNT, NAMESPACE)

    def restart(self) -> None:
        """Killed, not stopped: the harder case. Raises TimeoutError."""
        with self.away():
            pass

    @contextmanager
    def away(self) -> Iterator[None]:
        """Killed for the length of the block; then another one starts. Raises TimeoutError."""
        self.process.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing for the length of the block, and its connections stay open."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @property
    def ca_pem(self) -> bytes:
        return (self._tls_directory / "ca.crt").read_bytes()

    def stop(self) -> int:
        """SIGTERM. Its exit status. Raises TimeoutError."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT)

    def whole_log(self) -> str:
        """Over all starts."""
        return self.process.log.read_text(errors="replace")

    def log(self) -> str:
        """The end of its log."""
        return self.process.tail()

    def _policies_can_be_listed(self) -> bool:
        try:
            self._api_server.request("GET", "/apis/postwarden.dev/v1alpha1/screeningpolicies")
        except ApiError:
            return False
        return True

    def _serves(self) -> bool:
        """It refuses a stream for its missing token; until it has read the cluster, as unavailable."""
        if not (self._tls_directory / "ca.crt").exists():
            return False
        with StreamClient(self.address, self.ca_pem, None) as client:
            return client.end() is grpc.StatusCode.UNAUTHENTICATED
