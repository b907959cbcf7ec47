"""The sidecar as its users start it: `postwarden up` or `postwarden-sidecar run`, a real process with real workers.

Contract: `with up(policy, …) as sidecar:` listens and has its policy in force; `with run(…) as sidecar:` listens. At the end of the
block the process is gone, drained by SIGTERM if it was still alive; an exit status other than 0 or a traceback in its log is an error. The
command is the one beside the Python that runs the tests. Start it from a thread that lives as long as it shall (see netns.DIES_WITH_US).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.compiled import search_path
from harness.netns import DIES_WITH_US, NetworkNamespace
from harness.polling import poll
from harness.postfix_configuration import join_address, split_address
from harness.quick_batches import QUICK_BATCHES

START_TIMEOUT = 30.0
"""Seconds until `ready`; 1 s is usual on idle cores."""

WAIT_TIMEOUT = 15.0
"""Seconds for a line of the log or an edit to come into force; 0.5 s is usual."""

STOP_TIMEOUT = 40.0
"""Seconds from SIGTERM to the end: --drain-timeout's 20 and room."""


class Sidecar:
    """A running sidecar. Its log (stderr) and output (stdout) are files in a folder that ends with the block.

    command -- `up` or `run`. policy: the text of the file given by -f (`up`). listen: `HOST:PORT`, port 0 is any free one
    options -- further flags. network: where it runs; the machine's own network if None. prefix: a command that starts it, as `prlimit …`
    log: a descriptor that stderr is written to in place of the file
    """

    def __init__(
        self,
        command: str,
        *,
        listen: str = "127.0.0.1:0",
        policy: str | None = None,
        options: Sequence[str] = (),
        network: NetworkNamespace | None = None,
        prefix: Sequence[str] = (),
        log: int | None = None,
    ) -> None:
        self._command = command
        self._policy = policy
        self._options = list(options)
        self._network = network
        self._prefix = list(prefix)
        self._log = log
        self._listen = split_address(listen)
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="postwarden-sidecar-"))
        try:
            if self._policy is not None:
                self.policy_file.write_text(self._policy)
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                status, log = self.stop(), self.log_text()
                assert status == 0, f"exit status {status}:\n{log}"
                assert "Traceback" not in log, log
        finally:
            self._end()

    @property
    def host(self) -> str:
        """The address that clients connect to, without brackets."""
        return self._listen[0]

    @property
    def port(self) -> int:
        """The port that clients connect to, known once it serves."""
        return self._listen[1]

    @property
    def address(self) -> str:
        """`HOST:PORT`, as options want it."""
        return join_address(self.host, self.port)

    @property
    def directory(self) -> Path:
        """Of this sidecar alone. Raises RuntimeError outside the `with` block."""
        if self._directory is None:
            raise RuntimeError("a Sidecar is used outside its `with` block")
        return self._directory

    @property
    def policy_file(self) -> Path:
        """What -f names."""
        return self.directory / "policy.yaml"

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """The pids of its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children]

    def descriptors(self) -> list[int]:
        """How many descriptors each worker has open."""
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.workers()]

    def output(self) -> list[str]:
        """The lines of stdout so far."""
        return (self.directory / "stdout").read_text().splitlines()

    def log(self) -> list[str]:
        """The lines of stderr so far."""
        return self.log_text().splitlines()

    def log_text(self) -> str:
        """All of stderr so far."""
        return (self.directory / "stderr").read_text(errors="backslashreplace")

    def wait_for_log(self, pattern: str, count: int = 1, timeout: float = WAIT_TIMEOUT) -> list[str]:
        """The lines of stderr in which the regular expression is found, once there are `count`. Raises TimeoutError."""

        def lines() -> list[str] | None:
            found = [line for line in self.log() if re.search(pattern, line)]
            return found if len(found) >= count else None

        return poll(lines, timeout, lambda: f"fewer than {count} lines with {pattern!r}:\n{self.log_text()}")

    def applied(self) -> int:
        """How many edits have come into force."""
        return sum(line.startswith("applied ") for line in self.output())

    def edit(self, policy: str) -> None:
        """Replace the policy file as editors do, and wait until it is in force. Raises TimeoutError."""
        before = self.applied()
        self.replace_policy(policy)
        poll(lambda: self.applied() > before, WAIT_TIMEOUT, lambda: f"not applied:\n{self.log_text()}")

    def replace_policy(self, policy: str) -> None:
        """Replace the policy file as editors do, and don't wait."""
        new = self.policy_file.with_suffix(".new")
        new.write_text(policy)
        new.replace(self.policy_file)

    def terminate(self) -> None:
        """Send SIGTERM, and don't wait."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status. Raises TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(STOP_TIMEOUT)

    def stop(self) -> int:
        """SIGTERM, unless it has ended; its exit status. Raises TimeoutExpired."""
        assert self._process is not None
        if self._process.poll() is None:
            self.terminate()
        return self.wait()

    def _start(self) -> None:
        program = "postwarden" if self._command == "up" else "postwarden-sidecar"
        files = ["-f", str(self.policy_file)] if self._policy is not None else []
        argv = [str(executable(program)), self._command, *files]
        argv += ["--listen", self.address, *self._options]
        command = argv if self._network is None else self._network.command(argv)
        with (self.directory / "stdout").open("wb") as out, (self.directory / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, *self._prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if self._log is None else self._log,
                # What a killed one leaves in TMPDIR goes, too.
                env=clean_environment() | QUICK_BATCHES | search_path() | {"TMPDIR": str(self.directory)},
            )
        poll(self._serves, START_TIMEOUT, lambda: f"it does not serve:\n{self.log_text()}")

    def _serves(self) -> bool:
        """Whether it says that it does; then the port is known, for port 0 is left to the kernel."""
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise RuntimeError(f"it ended at its start with exit status {status}:\n{self.log_text()}")
        if self._command == "up":
            said = next((line for line in self.output() if line.startswith("ready ")), None)
            found = said and re.search(r" listen=\S*:(\d+) ", said)
        else:
            found = re.search(r" listening on \S+ port (\d+)\n", self.log_text())
        if found:
            self._listen = (self.host, int(found[1]))
        return bool(found)

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None


def up(
    policy: str,
    *options: str,
    upstream: str | None = None,
    handoff: str | None = None,
    log_format: str | None = "postscreen",
    listen: str = "127.0.0.1:0",
    network: NetworkNamespace | None = None,
    prefix: Sequence[str] = (),
    log: int | None = None,
) -> Sidecar:
    """`postwarden up`."""
    named = {"--upstream": upstream, "--handoff": handoff, "--log-format": log_format}
    flags = [word for flag, value in named.items() if value is not None for word in (flag, value)]
    options = (*flags, *options)
    return Sidecar(
        "up", policy=policy, listen=listen, options=options, network=network, prefix=prefix, log=log
    )


def run(
    *options: str,
    listen: str = "127.0.0.1:0",
    network: NetworkNamespace | None = None,
    prefix: Sequence[str] = (),
) -> Sidecar:
    """`postwarden-sidecar run`, without an operator unless the options name one."""
    return Sidecar("run", listen=listen, options=options, network=network, prefix=prefix)


def executable(name: str) -> Path:
    """The project's command `name`, beside the Python that runs this."""
    return Path(sys.executable).parent / name


def clean_environment() -> dict[str, str]:
    """PATH and HOME only: neither POSTWARDEN_* nor OTEL_* of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
