"""Debian's HAProxy, run with a configuration file in a network of the test's own.

Contract: `with HAProxy(configuration, network):` has it running; its log, one line a connection or a check's change, is read by `log`. The
program is run from a root folder in the cache by that folder's own loader, so nothing is installed.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.netns import NetworkNamespace
from harness.polling import poll
from harness.rootfs import debian_root

START_TIMEOUT = 10.0
"""Seconds until it listens; 0.1 is usual."""

LOG_TIMEOUT = 20.0
"""Seconds for a line of its log: checks run every few seconds."""


class HAProxy:
    """configuration: the text of haproxy.cfg. Needs root, as `debian_root`."""

    def __init__(self, configuration: str, network: NetworkNamespace) -> None:
        self._configuration = configuration
        self._network = network

    def __enter__(self) -> Self:
        root = debian_root("haproxy", ["haproxy"])
        loader = next((root / "usr/lib").glob("*-linux-gnu/ld-linux*.so.*"))
        command = [str(loader), "--library-path", str(loader.parent), str(root / "usr/sbin/haproxy")]
        self._directory = tempfile.TemporaryDirectory(prefix="haproxy-")
        file = Path(self._directory.name, "haproxy.cfg")
        file.write_text(self._configuration)
        with Path(self._directory.name, "log").open("wb") as log:
            self._process = self._network.popen(
                [*command, "-db", "-f", file], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            poll(self._listens, START_TIMEOUT, lambda: f"HAProxy does not listen:\n{self.log()}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def log(self) -> str:
        """All that it has said."""
        return Path(self._directory.name, "log").read_text()

    def wait_for_log(self, pattern: str) -> str:
        """The first line in which the regular expression is found. Raises TimeoutError."""

        def line() -> str | None:
            return next((line for line in self.log().splitlines() if re.search(pattern, line)), None)

        return poll(line, LOG_TIMEOUT, lambda: f"HAProxy does not say {pattern!r}:\n{self.log()}")

    def _listens(self) -> bool:
        if (status := self._process.poll()) is not None:
            raise RuntimeError(f"HAProxy ended at its start with exit status {status}:\n{self.log()}")
        return ":25 " in self._network.run(["ss", "-Hltn"]).stdout

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(START_TIMEOUT)
        self._directory.cleanup()
