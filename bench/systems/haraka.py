"""Haraka (npm) with its plugin `access`, logging as installed, to a file; one process, as its default is.

It is installed from bench/haraka/package-lock.json into the cache, once. Its plugin compares whole addresses and knows no networks, so its
list has the benchmark's clients only, one by one. The answer is 554 where others say 521.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.mail_server import START_TIMEOUT
from harness.netns import DIES_WITH_US
from harness.polling import poll
from harness.postfix_configuration import free_port
from harness.sidecar import clean_environment
from harness.toolchain import cache_dir, file_lock

from bench.cases.case import Case
from bench.control_group import ControlGroup
from bench.networks import networks
from bench.systems.listening import listens
from bench.systems.system import Running

LOCKED = Path(__file__).parent.parent / "haraka"
INSTALL_TIMEOUT = 300.0
"""Seconds; ten are usual."""


def installed() -> Path:
    """The folder with node_modules. Raises RuntimeError with npm's words."""
    lock = LOCKED / "package-lock.json"
    result = cache_dir() / "npm" / f"haraka-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    result.parent.mkdir(exist_ok=True)
    with file_lock(result.with_suffix(".lock")):
        if not result.is_dir():
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=result.parent))
            for name in ("package.json", lock.name):
                shutil.copy(LOCKED / name, partial)
            npm = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
            done = subprocess.run(npm, cwd=partial, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
            if done.returncode != 0:
                shutil.rmtree(partial)
                raise RuntimeError(f"npm can't install Haraka:\n{done.stderr[-2000:]}")
            partial.rename(result)
    return result


class Haraka:
    """See the module."""

    name = "haraka"

    @contextmanager
    def start(self, case: Case) -> Iterator[Running]:
        port, program = free_port("127.0.0.1", None), installed() / "node_modules/.bin/haraka"
        with (
            tempfile.TemporaryDirectory(prefix="postwarden-haraka-") as folder,
            ControlGroup(self.name) as group,
        ):
            _configure(Path(folder), port)
            with group.joined(), (Path(folder) / "log").open("wb") as log:
                process = subprocess.Popen(
                    [*DIES_WITH_US, str(program), "-c", folder],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=clean_environment(),
                )
            try:
                poll(lambda: listens(port), START_TIMEOUT, lambda: (Path(folder) / "log").read_text()[-2000:])
                yield Running(f"127.0.0.1:{port}", group, log=Path(folder) / "log")
            finally:
                process.kill()
                process.wait()


def _configure(folder: Path, port: int) -> None:
    for name in ("config", "plugins", "queue"):
        (folder / name).mkdir()
    shutil.copy(LOCKED / "no_rdns.js", folder / "plugins")
    # It reads its own settings only if they are here.
    shutil.copy(installed() / "node_modules/Haraka/config/connection.ini", folder / "config")
    texts = {
        "me": "mx.example.com",
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\n",
        "plugins": "no_rdns\naccess\n",
        "access.ini": "[check]\nany=false\nconn=true\n",
        "connect.rdns_access.blacklist": "\n".join(each for each in networks() if "/" not in each),
        "log.ini": "[main]\nlevel=info\n",
        "host_list": "example.org",
    }
    for name, text in texts.items():
        (folder / "config" / name).write_text(text + "\n")
