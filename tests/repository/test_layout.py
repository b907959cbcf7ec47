"""What the repository promises of itself, checked on the files that git tracks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400  # a file does one thing; longer ones need a reason, named here
LONGER = {
    "tests/policy/documents.py": "a table: good and bad documents, for the model and for a real API server alike",
}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("folder", ["operator", "sidecar", "proto", "cli"])
def test_folders_that_hold_packages_are_none_themselves(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/ would shadow a module of that name"


def test_pythons_own_operator_module_is_importable_from_the_root() -> None:
    import operator

    assert operator.add(1, 2) == 3


@pytest.mark.parametrize(
    "package", ["operator/postwarden_operator", "sidecar/postwarden_sidecar", "cli/postwarden_cli"]
)
def test_packages_are_marked_as_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


LOCKS = ("dev", "operator", "sidecar", "build")


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_name_no_host_and_pin_every_line_with_a_hash(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text()
    assert not re.search(r"https?://|--index-url|--find-links|--trusted-host", text)
    pins = re.findall(r"^([a-z0-9._-]+(?:\[[a-z,]+\])?)==", text, re.MULTILINE | re.IGNORECASE)
    assert len(pins) > (5 if lock == "build" else 25)
    blocks = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_images_have_the_versions_that_are_tested(lock: str) -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))

    assert pinned(lock) <= pinned("dev")


def test_files_do_one_thing() -> None:
    """Generated code aside."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py")
        if "_pb2" not in path.name and (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert set(long) <= set(LONGER), f"over {MAX_LINES} lines: {long}"


def test_every_python_file_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if "_pb2" not in path.name and not path.read_text().lstrip().startswith(('"""', "#!", "'''"))
    ]
    assert not silent


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert not [path for path in tracked("*.py") if path.stem in vague]


def test_relative_links_in_the_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked("*.md")
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert not broken
