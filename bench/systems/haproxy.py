"""Debian's HAProxy: rejects what its ACL has, read from a file, and logs it. As installed it has a thread a core; with one thread, as
Postwarden has one worker here, it takes less CPU, so both are measured.

`tcp-request content` and not `connection`: only then is there a log line. In TCP mode HAProxy can't reply; its clients see the end.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.haproxy import START_TIMEOUT
from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port
from harness.rootfs import debian_root

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.networks import networks
from bench.systems.listening import listens
from bench.systems.system import Running

COMMON = """\
global
  {threads}
  maxconn 8000
  log stdout format raw daemon
defaults
  mode tcp
  log global
  option tcplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend smtp
  bind 127.0.0.1:{port}
"""
REJECTING = """\
  acl listed src -f {networks}
  tcp-request content reject if listed
  default_backend nobody
backend nobody
"""
RELAYING = """\
  default_backend mta
backend mta
  server mta {target} send-proxy-v2
"""


class HAProxy:
    """threads: of the section `global`; none: HAProxy's default."""

    def __init__(self, name: str = "haproxy", threads: int | None = None) -> None:
        self.name = name
        self._threads = "" if threads is None else f"nbthread {threads}"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        with tempfile.TemporaryDirectory(prefix="postwarden-bench-") as folder:
            listed = Path(folder) / "networks"
            listed.write_text("\n".join(networks()) + "\n")
            with _started(self.name, self._threads, REJECTING.format(networks=listed)) as running:
                yield running


@contextmanager
def relay(target: str) -> Iterator[Running]:
    """It relays to HOST:PORT, with a PROXY header of version 2."""
    with _started("haproxy", "", RELAYING.format(target=target)) as running:
        yield running


@contextmanager
def _started(name: str, threads: str, rest: str) -> Iterator[Running]:
    root = debian_root("haproxy", ["haproxy"])
    loader = next((root / "usr/lib").glob("*-linux-gnu/ld-linux*.so.*"))
    port = free_port("127.0.0.1", None)
    with tempfile.TemporaryDirectory(prefix="postwarden-bench-") as directory, ControlGroup(name) as group:
        folder = Path(directory)
        (folder / "haproxy.cfg").write_text(COMMON.format(threads=threads, port=port) + rest)
        command = [*DIES_WITH_US, str(loader), "--library-path", str(loader.parent)]
        command += [str(root / "usr/sbin/haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
        with (folder / "log").open("wb") as log, group.joined():
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            poll(
                lambda: listens(port),
                START_TIMEOUT,
                lambda: f"HAProxy does not listen:\n{(folder / 'log').read_text()}",
            )
            yield Running(f"127.0.0.1:{port}", group, log=folder / "log")
        finally:
            process.kill()
            process.wait()
