"""An operator that is its own CA: `postwarden-operator run --ca-secret`.

Contract: as OperatorProcess; several with the same Secret are replicas of each other. `ca_pem` is the bundle that the Secret holds now.
"""

import base64
import sys
from pathlib import Path

import grpc

from harness.chart import operator_rights
from harness.cluster import ApiError, ApiServer
from harness.cluster_process import LoggedProcess
from harness.operator_process import NAMESPACE, START_TIMEOUT, OperatorProcess
from harness.stream_client import StreamClient

SECRET = "postwarden-ca"


class AuthorityOperator(OperatorProcess):
    """secret: its name, in the operator's own namespace. options: further ones of the command line."""

    def __init__(self, api_server: ApiServer, *, secret: str = SECRET, options: tuple[str, ...] = ()) -> None:
        super().__init__(api_server)
        self._secret = secret
        self._more = options

    def start(self) -> None:
        """Raises TimeoutError, with the end of its log."""
        if self._secret != SECRET:
            # The same rights for another name.
            role = next(
                part
                for part in operator_rights().split("\n---\n")
                if "kind: Role\n" in part and SECRET in part
            )
            self._api_server.apply(role.replace(f"[{SECRET}]", f"[{SECRET}, {self._secret}]"))
        command: list[str | Path] = [
            *(Path(sys.executable).with_name("postwarden-operator"), "run", f"--listen={self.address}"),
            *(f"--ca-secret={NAMESPACE}/{self._secret}", "--server-name=127.0.0.1", *self._more),
        ]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._directory),
            "KUBECONFIG": str(self._kubeconfig),
        }
        self.process = LoggedProcess(command, self._directory / "operator.log", environment)
        self.process.wait_until(self._answers, START_TIMEOUT, "serving")

    @property
    def ca_pem(self) -> bytes:
        """Raises ApiError (404: there is none yet)."""
        return self.secret_data()["ca.crt"]

    def secret_data(self) -> dict[str, bytes]:
        """Raises ApiError."""
        body = self._api_server.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{self._secret}")
        return {key: base64.b64decode(value) for key, value in body.get("data", {}).items()}

    def _answers(self) -> bool:
        try:
            bundle = self.ca_pem
        except (ApiError, KeyError):
            return False
        with StreamClient(self.address, bundle, None) as client:
            return client.end() is grpc.StatusCode.UNAUTHENTICATED
