"""Two operators that share the work, for e2e/conftest.py to import.

Contract: `replicas` are two running processes, and no other operator runs meanwhile: that would write status, too. They are shared by a
module's tests; what one of these has killed is there again for the next.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from loopback_ports import free_port
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from harness.cluster import ApiServer
from harness.operator_process import ACCOUNT, NAMESPACE, OperatorProcess
from harness.polling import poll

__all__ = ["replica_pair", "replicas"]

PEERS_AUDIENCE = "peers.postwarden.dev"

LEASE_DURATION = 3.0
"""Seconds. Of the usual 15, a test would have to wait for every one."""


@dataclass
class Replicas:
    """Two operators that share the work, by a Lease of this name."""

    api_server: ApiServer
    lease: str
    operators: list[OperatorProcess]

    def spec(self) -> dict[str, Any]:
        """The Lease's."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{self.lease}"
        found: dict[str, Any] = self.api_server.request("GET", path)["spec"]
        return found

    def leader(self) -> OperatorProcess:
        """Who holds the Lease, and lives."""
        return poll(self._leader, 10.0, lambda: f"{self.spec()}\n{self.operators[0].log()}")

    def _leader(self) -> OperatorProcess | None:
        holder = self.spec()["holderIdentity"]
        return next(
            (each for each in self.operators if each.process.alive() and identity(each) == holder), None
        )

    def other(self, operator: OperatorProcess) -> OperatorProcess:
        return next(each for each in self.operators if each is not operator)


def identity(operator: OperatorProcess) -> str:
    """By its log; each start has another."""
    started: list[str] = re.findall(r"(\S+) may lead by", operator.whole_log())
    return started[-1]


def replica_options(api_server: ApiServer, directory: Path, ports: Sequence[int], lease: str) -> list[str]:
    api_server.ensure_service_account(ACCOUNT, NAMESPACE)
    token = directory / "peers-token"
    token.write_text(api_server.unbound_token(ACCOUNT, NAMESPACE, PEERS_AUDIENCE))
    return [
        f"--lease={NAMESPACE}/{lease}",
        f"--lease-duration={LEASE_DURATION:g}",
        f"--peers-token={token}",
        f"--peers-ca={directory / 'ca.crt'}",
        *(f"--peers=127.0.0.1:{port}" for port in ports),
    ]


@pytest.fixture(scope="module")
def replica_pair(
    api_server: ApiServer, operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    directory = tmp_path_factory.mktemp("replicas")
    ports = [free_port(), free_port()]
    with operator.away(), ExitStack() as running:
        options = replica_options(api_server, directory, ports, "replicas")
        operators = [OperatorProcess(api_server, options=options, port=port, tls=directory) for port in ports]
        for each in operators:
            running.enter_context(each)
        yield Replicas(api_server, "replicas", operators)


@pytest.fixture
def replicas(replica_pair: Replicas) -> Replicas:
    """Both are there, whatever the test before has done to them."""
    for each in replica_pair.operators:
        if not each.process.alive():
            each.start()
    return replica_pair


def told_by(operator: OperatorProcess, token: str | None) -> grpc.StatusCode | list[pb.PeerUpdate]:
    """The first view that this token gets to see, or how it is refused."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    credentials = grpc.ssl_channel_credentials(operator.ca_pem)
    with grpc.secure_channel(operator.address, credentials) as channel:
        call = pb_grpc.PeersStub(channel).Watch(pb.WatchRequest(), metadata=metadata, timeout=10)
        updates = []
        try:
            for update in call:
                updates.append(update)
                if update.complete:
                    return updates
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    raise AssertionError(f"the view has no end: {updates}")
