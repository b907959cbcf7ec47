"""The operator on a machine of its own, as far as the network goes: it can be frozen, partitioned, and lose the API server.

Contract: like OperatorProcess, in a network namespace. A cable (veth) joins it to where sidecars and tests run; the API server is reached
through `api`, a TcpGate that listens in there. Partitions drop packets in the kernel: neither side is told anything.
"""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from harness.netns import NetworkNamespace
from harness.operator_process import OperatorProcess
from harness.tcp_gate import TcpGate

HOST, OPERATOR = "198.51.100.1", "198.51.100.2"
"""The ends of the cable: of TEST-NET-2 (RFC 5737), which no machine uses."""

NOBODY = "02:00:00:00:00:99"
"""A hardware address of no interface: what is sent there is dropped on arrival."""

HEALTH_PORT = 8080


class OperatorApart(OperatorProcess):
    """`network`: its namespace. `api`: its way to the API server."""

    host = OPERATOR

    def __enter__(self) -> Self:
        self.network = self._cleanup.enter_context(NetworkNamespace())
        self.network.link_to_host([f"{OPERATOR}/30"], [f"{HOST}/30"])
        api = urlsplit(self._api_server.url)
        assert api.hostname is not None
        assert api.port is not None
        self.api = self._cleanup.enter_context(TcpGate((api.hostname, api.port), self.network))
        return super().__enter__()

    def _make_kubeconfig(self) -> Path:
        direct = super()._make_kubeconfig()
        settings = json.loads(direct.read_text())
        settings["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.api.port}"
        through_the_gate = self._directory / "kubeconfig"
        through_the_gate.write_text(json.dumps(settings))
        return through_the_gate

    def _command(self) -> list[str | Path]:
        return [*self.network.command([*super()._command(), f"--health={OPERATOR}:{HEALTH_PORT}"])]

    def probe(self, path: str) -> int:
        """HTTP's status, as kubelet would see it. Raises OSError where nothing answers within a second."""
        try:
            with urllib.request.urlopen(f"http://{OPERATOR}:{HEALTH_PORT}{path}", timeout=1.0) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            return refusal.code

    @contextmanager
    def partitioned(self) -> Iterator[None]:
        """No packet passes between it and the sidecars for the length of the block, in either direction."""
        here = json.loads(subprocess.check_output(["ip", "-json", "route", "get", OPERATOR]))[0]["dev"]
        there = json.loads(self.network.run(["ip", "-json", "route", "get", HOST]).stdout)[0]["dev"]
        subprocess.run(["ip", "neigh", "replace", *_astray(OPERATOR, here)], check=True)
        self.network.run(["ip", "neigh", "replace", *_astray(HOST, there)])
        try:
            yield
        finally:
            subprocess.run(["ip", "neigh", "del", OPERATOR, "dev", here], check=True)
            self.network.run(["ip", "neigh", "del", HOST, "dev", there])


def _astray(address: str, link: str) -> list[str]:
    return [address, "lladdr", NOBODY, "nud", "permanent", "dev", link]
