"""Programs of Debian packages that are unpacked into the cache and not installed: an install would start their service.

Contract: `unpacked(package)` gives the folder with the package's files, made once, under a file lock. What the program needs of other
packages must be on the machine.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.toolchain import cache_dir, file_lock, unavailable

FETCH_TIMEOUT = 200.0
"""Seconds for one package: Prometheus has 19 MB."""


def unpacked(package: str) -> Path:
    """Skips or fails by `unavailable` where it can't be had."""
    folder = cache_dir() / "packages" / package
    with file_lock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _fetch(package, folder)
    return folder


def _fetch(package: str, folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        unavailable(f"Debian package {package} (no apt-get here)")
    # Beside the result, for a rename must not cross file systems.
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        fetched = subprocess.run(
            ["apt-get", "download", package],
            cwd=partial,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT,
        )
        files = list(Path(partial).glob("*.deb"))
        if fetched.returncode != 0 or not files:
            unavailable(f"Debian package {package}: {fetched.stderr.strip()}")
        subprocess.run(["dpkg-deb", "-x", files[0], Path(partial, "root")], check=True, timeout=FETCH_TIMEOUT)
        Path(partial, "root").rename(folder)
