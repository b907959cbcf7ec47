"""Wheels whose data path is compiled: the same modules, by mypyc, as a C extension.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=true: the image of the sidecar is built so (images/sidecar/Dockerfile), development and a plain
`pip install` are not. It needs mypy and setuptools (requirements/compile.lock) and a C compiler with Python's headers; what is imported by
the modules should be installed, for types that are not known are compiled into slower code. POSTWARDEN_PYTHON names the interpreter in
whose environment it is installed [this one].

Contract: the source stays plain Python, is the oracle of the tests, and goes into the wheel too; nothing is written into the tree. What is
compiled is said in pyproject.toml. Why no plugin: hatch-mypyc moves pyproject.toml away while it works and leaves its results beside the
source, where a development tree would load them ever after.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("sidecar/postwarden_sidecar", "proto/postwarden")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # the builder's configuration is not looked at
    """Options in pyproject.toml: compile, folders and files below a package's parent; keep, files of them that stay Python."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the extensions included."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="postwarden-compile-")
        work = Path(self._folder.name)
        for package in PACKAGES:
            source = Path(self.root, package)
            shutil.copytree(source, work / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        modules = sorted(_modules(work, self.config["compile"]) - _modules(work, self.config.get("keep", [])))
        python = os.environ.get("POSTWARDEN_PYTHON", sys.executable)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "mypyc",
                "--config-file=",  # the project's own settings name folders that are not here
                "--strict",
                f"--python-executable={python}",
                "--explicit-package-bases",
                "--namespace-packages",
                "--ignore-missing-imports",
                *modules,
            ],
            cwd=work,
            # -O1: what the modules do is mostly calls of Python's own; -O3 gains nothing that could be measured, and takes twice as long.
            env={"MYPYC_OPT_LEVEL": "1", "MYPYC_DEBUG_LEVEL": "0", **os.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            self.app.abort(f"mypyc could not compile postwarden:\n{done.stdout[-8000:]}")
        built = work / "build"
        for extension in work.rglob("*.so"):
            if built not in extension.parents:
                build_data["force_include"][str(extension)] = str(extension.relative_to(work))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is there."""
        if self._folder is not None:
            self._folder.cleanup()


def _modules(root: Path, paths: list[str]) -> set[str]:
    """As `package/module.py`. Raises FileNotFoundError for what is not there: a file that was renamed would no longer be compiled, and
    nobody would see it."""
    found: set[str] = set()
    for path in paths:
        if not (root / path).exists():
            raise FileNotFoundError(
                f"pyproject.toml, tool.hatch.build.targets.wheel.hooks.custom: {path} is not there"
            )
        files = [root / path] if path.endswith(".py") else (root / path).rglob("*.py")
        found |= {
            str(file.relative_to(root)) for file in files if file.name not in ("__init__.py", "__main__.py")
        }
    return found
