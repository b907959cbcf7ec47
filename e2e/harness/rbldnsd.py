"""Debian's rbldnsd, the name server that real block lists are served by.

Contract: `with Rbldnsd({zone: [addresses]}) as server:` answers at `server.address`. The package is fetched and unpacked into the cache,
not installed: its service would take port 53 of the machine.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.debian_package import unpacked
from harness.polling import poll

START_TIMEOUT = 10.0
"""Seconds until it answers; well under one is usual."""


class Rbldnsd:
    """listed: addresses by zone; each zone has the test entry 127.0.0.2, too.
    listen: where it answers; None: any free port of 127.0.0.1.
    """

    def __init__(self, listed: Mapping[str, Sequence[str]], *, listen: tuple[str, int] | None = None) -> None:
        self._listed = listed
        # It reads its data as a user of its own.
        self._directory = Path(tempfile.mkdtemp(prefix="rbldnsd-"))
        self._directory.chmod(0o755)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(listen or ("127.0.0.1", 0))
            host, port = taken.getsockname()
        self._listen = f"{host}/{port}"
        self.address = f"{host}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = unpacked("rbldnsd") / "usr/sbin/rbldnsd"
        zones = []
        for number, (zone, addresses) in enumerate(self._listed.items()):
            soa = f"$SOA 300 ns.{zone}. root.{zone}. 0 600 300 86400 60\n$NS 300 ns.{zone}.\n"
            data = self._directory / f"zone{number}"
            data.write_text(soa + ":127.0.0.2:listed\n" + "\n".join(["127.0.0.2", *addresses]) + "\n")
            zones.append(f"{zone}:ip4set:{data.name}")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command: list[str | Path] = [program, "-n", *user, "-b", self._listen]
        command += ["-w", self._directory, "-c", "0", *zones]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        poll(
            lambda: "started" in self._log() or None,
            START_TIMEOUT,
            lambda: f"rbldnsd does not start: {self._log()}",
        )
        return self

    def _log(self) -> str:
        return (self._directory / "log").read_text()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT)
        shutil.rmtree(self._directory)
