"""`postwarden-sidecar run` as a process of its own, as a pod would have it: settings in variables, a token file, a state directory.

Contract: `with SidecarProcess(...) as sidecar:` answers clients at `address`; a restart has the same ports, files and state.
What it logs, verdicts too, is in one file. Without an operator, and for `postwarden up`, there is `harness.sidecar`.
"""

import http.client
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loopback_ports import free_ports

from harness.cluster_process import LoggedProcess
from harness.compiled import search_path
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.quick_batches import QUICK_BATCHES

COMMAND = Path(sys.executable).with_name("postwarden-sidecar")

START_TIMEOUT = 20.0
"""Seconds until it is ready; 1 to 2 are usual, half of it Python's imports. Without a word of the operator it waits 2 s for one."""

STOP_TIMEOUT = 20.0
"""Seconds from SIGTERM to its end with no session open: an OTLP endpoint that hangs may cost 5."""

RECORD_TIMEOUT = 20.0
"""Seconds from a connection's end to its line in the log; some 10 ms are usual, on a machine with nothing else to do."""


class SidecarProcess:
    """directory -- for its files; they outlive it
    upstream  -- the MTA that the injection knows of, HOST:PORT; None: only a policy can name one
    operator, token -- where its rules come from, and the pod's token for it (None: the file is missing). Without an operator: no rules
    options   -- further ones of the command line; variables -- further ones of the environment
    program   -- that is run; another release's, for instance
    """

    def __init__(
        self,
        directory: Path,
        *,
        upstream: str | None,
        handoff: str = "plain",
        operator: OperatorProcess | None = None,
        token: str | None = None,
        options: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        program: Path = COMMAND,
    ) -> None:
        self.state_dir = directory / "state"
        self.token_file = directory / "token"
        self._log = directory / "sidecar.log"
        self._ready_with_mta = upstream is not None
        port, self._health, self.metrics_port = free_ports(3)
        self.listen = ("127.0.0.1", port)
        self.address = f"127.0.0.1:{port}"
        self._command: list[str | Path] = [
            *(program, "run", f"--listen={self.address}", f"--health=127.0.0.1:{self._health}"),
            *(f"--metrics=127.0.0.1:{self.metrics_port}", f"--state-dir={self.state_dir}", *options),
        ]
        # Another release's program has modules of its own.
        found = search_path() if program == COMMAND else {}
        self._variables = {"PATH": os.environ["PATH"], **QUICK_BATCHES, **found, **(variables or {})}
        if upstream is not None:
            # Variables, as the injection sets them: a flag would override what the policy says.
            self._variables |= {"POSTWARDEN_UPSTREAM": upstream, "POSTWARDEN_HANDOFF": handoff}
        if token is not None:
            self.token_file.write_text(token)
        if operator is not None:
            ca_file = directory / "ca.crt"
            ca_file.write_bytes(operator.ca_pem)
            self._command += [f"--control={operator.address}", f"--token-file={self.token_file}"]
            self._command += [f"--ca-file={ca_file}"]
        self.process: LoggedProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when clients are accepted and, where an MTA is named at the start, its hand-off is proved.

        Raises TimeoutError with the end of its log.
        """
        self.process = LoggedProcess(self._command, self._log, self._variables)
        try:
            self.wait_for_health("/readyz", 200)
            if self._ready_with_mta:
                self.wait_for_health("/upstream", 200)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """SIGTERM. Its exit status, once it has drained and ended. Raises TimeoutError."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End it at once. Its workers end with it."""
        if self.process is not None:
            self.process.kill()

    def restart(self) -> None:
        """Killed, not stopped: the harder case. Raises TimeoutError."""
        self.kill()
        self.start()

    @property
    def worker(self) -> int:
        """The pid of its worker (there is one where there is no CPU limit)."""
        assert self.process is not None
        pid = self.process.pid
        (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found)

    def health(self, path: str) -> int | None:
        """HTTP's status of a health endpoint; None: it does not answer."""
        try:
            return self._get(self._health, path)[0]
        except OSError:
            return None

    def wait_for_health(self, path: str, status: int, timeout: float = START_TIMEOUT) -> None:
        """Raises TimeoutError with the end of its log, at once if it has ended."""
        assert self.process is not None
        self.process.wait_until(lambda: self.health(path) == status, timeout, f"answering {status} at {path}")

    def metrics(self) -> str:
        """What Prometheus is told. Raises OSError."""
        return self._get(self.metrics_port, "/metrics")[1]

    def log(self) -> str:
        """All that it has said, over all starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def said(self) -> str:
        """The end of its log, without the connections."""
        lines = [line for line in self.log().splitlines() if not line.startswith("{")]
        return "\n".join(lines[-20:])

    def log_tail(self) -> str:
        return self.process.tail() if self.process is not None else ""

    def wait_for_log(self, text: str, timeout: float = RECORD_TIMEOUT) -> None:
        """Raises TimeoutError with the end of the log."""
        poll(lambda: text in self.log(), timeout, lambda: f"{text!r} is not in the log:\n{self.log_tail()}")

    def records(self) -> list[dict[str, Any]]:
        """The connections that it has logged as JSON, over all starts."""
        lines = self.log().split("\n")[:-1]  # a last line without its end is still being written
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for_record(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first connection for which `matches` is true. Raises TimeoutError."""
        return poll(
            lambda: next(filter(matches, self.records()), None),
            RECORD_TIMEOUT,
            lambda: f"no such connection was logged:\n{self.log_tail()}",
        )

    def _get(self, port: int, path: str) -> tuple[int, str]:
        # /upstream may take the 5 s of a proof.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()
