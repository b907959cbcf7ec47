"""The programs of an older release, to run beside those of this tree: built from a pinned commit, once, and kept in the cache.

Contract: `older_release()` gives the folder with its `postwarden-operator` and `postwarden-sidecar`. It is a venv of its own with the wheel
of that commit and what that commit's lock file pins. It needs the commit in this clone's history, and a package index the first time;
without them the test is skipped, or fails where CI=true.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.toolchain import cache_dir, file_lock, say, unavailable

COMMIT = "1e132f46c7940d3ef65e6b5234db0849299d0304"
"""The last one before the operator and the sidecar learned to stand outages, replicas and rotating CAs."""

ROOT = Path(__file__).resolve().parents[2]

BUILD_TIMEOUT = 600.0
"""Seconds for one of the steps; all together took 125 s here, on busy cores."""


__all__ = ["older_programs", "older_release"]


@pytest.fixture(scope="session")
def older_programs() -> Path:
    """The folder with its programs. Built before the first test that is chosen and wants it (see cluster_fixtures)."""
    return older_release()


def older_release(commit: str = COMMIT) -> Path:
    """The folder with its programs."""
    # Not made under another name and renamed: a venv's programs hold its path.
    folder = cache_dir() / "releases" / f"{commit[:12]}-{sys.implementation.cache_tag}"
    finished = folder / "finished"
    programs = folder / "venv" / "bin"
    if finished.exists():
        return programs
    with file_lock(folder.with_suffix(".lock")):
        if not finished.exists():
            _require(commit)
            say(f"building the release of {commit[:12]} into {folder}, once: a minute or two")
            shutil.rmtree(folder, ignore_errors=True)
            _build(commit, folder)
            finished.touch()
    return programs


def _require(commit: str) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        unavailable(f"git and this project's history, to build commit {commit[:12]} (not a clone)")
    known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True)
    if known.returncode != 0:
        unavailable(f"commit {commit[:12]} in this clone's history: run `git fetch --unshallow`")


def _build(commit: str, folder: Path) -> None:
    source, python = folder / "source", folder / "venv" / "bin" / "python"
    source.mkdir(parents=True)
    archive = folder / "source.tar"
    _run("git", "archive", f"--output={archive}", commit)
    _run("tar", "--extract", f"--file={archive}", f"--directory={source}")
    _run(sys.executable, "-m", "venv", folder / "venv")
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "install", "--require-hashes", "--requirement", source / "requirements" / "dev.lock")
    wheels = folder / "wheels"
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", source)
    _run(*pip, "install", "--no-deps", *wheels.glob("*.whl"))


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT
    )
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        pytest.fail(f"{shown} exited {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
