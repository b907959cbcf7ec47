"""The sidecar as its image has it: with the data path compiled by mypyc (hatch_build.py).

Contract: `search_path()` is for the environment of whoever starts a sidecar; `compiled()` is made once for each content of the sources, in
the cache, under a file lock. So the end-to-end tests and the benchmark run what users run, while the unit tests run the same modules as
plain Python. POSTWARDEN_PURE=1: end-to-end, too.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.toolchain import apt_install, cache_dir, file_lock, say

ROOT = Path(__file__).resolve().parents[2]

SOURCES = ("hatch_build.py", "pyproject.toml", "sidecar", "proto")

KEPT = 8
"""Results that stay in the cache: switching between two branches compiles nothing."""

BUILD_TIMEOUT = 600.0
"""Seconds; one to two minutes are usual."""


def search_path() -> dict[str, str]:
    """PYTHONPATH, so that Python finds the compiled sidecar before the one of this tree."""
    return {} if os.environ.get("POSTWARDEN_PURE") else {"PYTHONPATH": str(compiled())}


@cache
def compiled() -> Path:
    """A folder with the packages of the sidecar and of the wire contract."""
    folder = cache_dir() / "compiled"
    result = folder / _key()
    with file_lock(result.with_suffix(".lock")):
        if not result.is_dir():
            _need_compiler()
            say("compiling the sidecar's data path, once: a minute or two")
            start = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="postwarden-wheel-") as directory:
                _build(Path(directory))
                partial = result.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                with zipfile.ZipFile(next(Path(directory).glob("*.whl"))) as wheel:
                    # The other packages are those of this tree, so that a change of theirs compiles nothing.
                    ours = [
                        name
                        for name in wheel.namelist()
                        if name.startswith(("postwarden_sidecar/", "postwarden/"))
                        or ("/" not in name and name.endswith(".so"))
                    ]
                    wheel.extractall(partial, ours)
                partial.rename(result)
            say(f"compiled the sidecar's data path in {time.monotonic() - start:.0f} s")
            others = (path for path in folder.iterdir() if path.is_dir() and path != result)
            older = sorted(others, key=lambda path: path.stat().st_mtime)
            for path in older[: 1 - KEPT]:
                shutil.rmtree(path)
        result.touch()
    return result


def _build(directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-index", "--wheel-dir", str(directory), str(ROOT)],
        env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        pytest.fail(
            f"the sidecar could not be compiled:\n{(done.stdout + done.stderr)[-4000:]}", pytrace=False
        )


def _need_compiler() -> None:
    missing = [] if shutil.which("cc") else ["gcc", "libc6-dev"]
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("python3-dev")
    apt_install(missing)


def _key() -> str:
    digest = hashlib.sha256(f"{sys.version} {version('mypy')} {version('msgspec')}".encode())
    for name in SOURCES:
        source = ROOT / name
        files = [source] if source.is_file() else source.rglob("*.py")
        for path in sorted(files):
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
