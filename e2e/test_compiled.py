"""The data path as it is compiled does what the same modules do as plain Python: its unit tests say so."""

import os
import re
import subprocess
import sys

import pytest
from harness.compiled import ROOT, search_path

FOLDERS = {"net": ["net"], "the rest": ["checks", "dnsbl", "engine", "handoff", "ipc", "rules"]}
FEWEST = {"net": 400, "the rest": 2000}
"""Tests of each: far fewer would mean that they are elsewhere now."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", FOLDERS)
def test_unit_tests_hold_for_compiled_code(which: str) -> None:
    """But for those that replace a part of it (tests/conftest.py)."""
    if os.environ.get("POSTWARDEN_PURE"):
        pytest.skip("POSTWARDEN_PURE=1: nothing is compiled")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [f"tests/{folder}" for folder in FOLDERS[which]],
        cwd=ROOT,
        env=environment | search_path(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    passed = re.search(r"(\d+) passed, \d+ deselected", done.stdout)
    assert passed is not None, done.stdout[-500:]
    assert int(passed[1]) > FEWEST[which]
