"""A sidecar (`postwarden-sidecar run`) as a pod has it: JSON log to a file, OTLP to an endpoint that takes all, Prometheus' port open,
state on disk. Operator, endpoint and mail server are outside the measured group.
"""

import base64
import gzip
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port
from harness.sidecar import START_TIMEOUT, Sidecar, clean_environment, run

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.networks import networks
from bench.systems.mta import passed_to
from bench.systems.name_server import PORT, name_server
from bench.systems.system import Running

LIMITS = "  limits: {connectionsPerClient: 0, screening: 20000, upstream: 1000}\n"
"""As those of postscreen here."""


def policy(case: Case, resolver: str) -> str:
    """The ScreeningPolicy, as YAML."""
    head = "apiVersion: postwarden.dev/v1alpha1\nkind: ScreeningPolicy\nmetadata: {name: bench}\nspec:\n  selector: {}\n"
    return head + case.spec.replace("{resolver}", resolver).lstrip("\n") + LIMITS


def config_map(lines: list[str]) -> str:
    """The list `zombies`, packed, as YAML."""
    data = base64.b64encode(gzip.compress("\n".join(lines).encode(), mtime=0)).decode()
    return (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: zombies, labels: {postwarden.dev/watch: "true"}}\n'
        f"binaryData: {{networks: {data}}}\n"
    )


class Postwarden:
    """options: further ones of the command line, as `--workers=2`."""

    def __init__(self, name: str = "postwarden", options: tuple[str, ...] = ()) -> None:
        self.name = name
        self._options = options

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with ExitStack() as running:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="postwarden-bench-")))
            mta, behind = running.enter_context(passed_to())
            others, resolver = {"mta": behind}, ""
            if case.name_server:
                host, others["name server"] = running.enter_context(name_server())
                resolver = f"{host}:{PORT}"
            policies = folder / "policies"
            policies.mkdir()
            (policies / "policy.yaml").write_text(policy(case, resolver))
            if case.listed:
                (policies / "list.yaml").write_text(config_map(networks()))
            operator = json.loads(running.enter_context(_spoken("bench.files_operator", str(policies))))
            endpoint = running.enter_context(_spoken("bench.otlp_sink"))
            (folder / "token").write_text(operator["token"])
            metrics, health = free_port("127.0.0.1", None), free_port("127.0.0.1", None)
            options = [
                f"--control={operator['address']}",
                f"--token-file={folder / 'token'}",
                f"--upstream=unix:{mta.pass_socket}",
                "--handoff=pass",
                f"--otlp-endpoint={endpoint}",
                f"--metrics=127.0.0.1:{metrics}",
                f"--health=127.0.0.1:{health}",
                f"--state-dir={folder / 'state'}",
                "--log-format=json",
                *self._options,
            ]
            group = running.enter_context(ControlGroup(self.name))
            sidecar = run(*options)
            with group.joined():
                running.enter_context(sidecar)
            for path in ("/readyz", "/upstream"):
                _wait_until_well(health, path, sidecar)
            yield Running(sidecar.address, group, others)


def _wait_until_well(port: int, path: str, sidecar: Sidecar) -> None:
    def well() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    poll(well, START_TIMEOUT, lambda: f"{path} is not 200:\n{sidecar.log_text()}")


@contextmanager
def _spoken(module: str, *arguments: str) -> Iterator[str]:
    """The first line that `python -m MODULE` says; it ends with the block."""
    process = subprocess.Popen(
        [*DIES_WITH_US, sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"PYTHONPATH": "."},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{module} did not start: exit status {process.wait()}")
        yield line
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
