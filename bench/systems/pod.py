"""A sidecar (`postwarden-sidecar run`) as a pod has it: JSON log to a file, OTLP to an endpoint that takes all, Prometheus' port open,
state on disk; in a control group of its own. Operator and endpoint are outside of it, and so is the mail server, which is the caller's.
"""

import base64
import gzip
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port
from harness.quick_batches import AS_INSTALLED
from harness.sidecar import START_TIMEOUT, Sidecar, clean_environment, run

from bench.control_group import ControlGroup

HEAD = "apiVersion: postwarden.dev/v1alpha1\nkind: ScreeningPolicy\nmetadata: {name: bench}\nspec:\n  selector: {}\n"

LIMITS = "  limits: {connectionsPerClient: 0, screening: 20000, upstream: 1000}\n"
"""None that the benchmark's clients reach."""


def policy(spec: str) -> str:
    """The ScreeningPolicy with this spec, as YAML."""
    return HEAD + spec.lstrip("\n") + LIMITS


def config_map(name: str, lines: Sequence[str]) -> str:
    """A list (key `networks`), packed, as YAML."""
    data = base64.b64encode(gzip.compress("\n".join(lines).encode(), 4, mtime=0)).decode()
    return (
        f'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{postwarden.dev/watch: "true"}}}}\n'
        f"binaryData: {{networks: {data}}}\n"
    )


@dataclass(frozen=True)
class Pod:
    """policies: the operator's folder; what is put there is in force soon after. state: --state-dir."""

    sidecar: Sidecar
    group: ControlGroup
    policies: Path
    state: Path

    @property
    def address(self) -> str:
        """`HOST:PORT` that clients connect to."""
        return self.sidecar.address

    @property
    def worker(self) -> int:
        """The pid of the first."""
        return self.sidecar.workers()[0]


@contextmanager
def pod(
    documents: Sequence[str],
    *,
    upstream: str,
    handoff: str,
    name: str = "postwarden",
    options: Sequence[str] = (),
) -> Iterator[Pod]:
    """It runs within the block, with these documents (policies, ConfigMaps; YAML) in force and the hand-off proved. name: of the group.
    options: further ones of the command line."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="postwarden-bench-")))
        policies = folder / "policies"
        policies.mkdir()
        for number, document in enumerate(documents):
            (policies / f"{number}.yaml").write_text(document)
        operator = json.loads(running.enter_context(spoken("bench.files_operator", str(policies))))
        endpoint = running.enter_context(spoken("bench.otlp_sink"))
        (folder / "token").write_text(operator["token"])
        metrics, health = free_port("127.0.0.1", None), free_port("127.0.0.1", None)
        flags = [
            f"--control={operator['address']}",
            f"--token-file={folder / 'token'}",
            f"--upstream={upstream}",
            f"--handoff={handoff}",
            f"--otlp-endpoint={endpoint}",
            f"--metrics=127.0.0.1:{metrics}",
            f"--health=127.0.0.1:{health}",
            f"--state-dir={folder / 'state'}",
            "--log-format=json",
            *options,
        ]
        group = running.enter_context(ControlGroup(name))
        sidecar = run(*flags, prefix=AS_INSTALLED)
        with group.joined():
            running.enter_context(_entered(sidecar))
        for path in ("/readyz", "/upstream"):
            wait_until_well(health, path, sidecar)
        yield Pod(sidecar, group, policies, folder / "state")


@contextmanager
def _entered(sidecar: Sidecar) -> Iterator[Sidecar]:
    with sidecar:
        yield sidecar


def wait_until_well(port: int, path: str, sidecar: Sidecar) -> None:
    """Until it answers 200 there, on the port of --health."""

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
def spoken(module: str, *arguments: str) -> Iterator[str]:
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
