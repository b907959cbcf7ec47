"""The images of operator and sidecar, built as a user builds them, on a Debian that stands in for Python's image."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.images import BASE, Image, inspect, project_image, unpacked
from harness.netns import require_namespaces
from harness.postfix_fixtures import progress_seen

Run = Callable[..., subprocess.CompletedProcess[str]]

LARGEST = {"sidecar": 120, "operator": 260}
"""MB unpacked beyond the base: what was aimed at for the sidecar; the operator's Kubernetes client alone takes 126."""

BUILDERS = re.compile(
    r"(pip|pip[0-9.]*|easy_install.*|wheel|cc|gcc|g\+\+|c\+\+|clang|as|ld|make|cmake|cargo|rustc|go)(-[0-9.]+)?"
)
"""Names of programs that install or compile others."""


@pytest.fixture(scope="module", params=["sidecar", "operator"])
def part(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def image(part: str, pytestconfig: pytest.Config) -> Image:
    require_namespaces()
    with progress_seen(pytestconfig):
        return project_image(part)


@pytest.fixture(scope="module")
def root(image: Image) -> Iterator[Path]:
    with unpacked(image.name) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def run(image: Image, root: Path) -> Run:
    """A command in the image as its user, with its environment, on a root file system that nobody can write to but for /tmp."""
    configuration: Any = inspect(image)["config"]
    script = (
        'mount --bind "$0" "$0" && mount --bind -o remount,ro "$0" "$0" && mount -t tmpfs -o mode=1777 tmpfs "$0/tmp" && '
        'mount -t proc proc "$0/proc" && exec chroot --userspec "$1" "$0" env -i "${@:2}"'
    )
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    start = [*namespaces, "bash", "-c", script, str(root), configuration["User"], *configuration["Env"]]

    def run_read_only(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*start, *command], capture_output=True, text=True, timeout=60)

    return run_read_only


def size(root: Path) -> int:
    """Bytes, as they lie on a disk with blocks of any size: the sum of the files' lengths."""
    seen: set[int] = set()
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # many thousand files
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_size
    return total


def test_nobody_needs_root_and_the_program_is_the_entry_point(part: str, image: Image) -> None:
    configuration: Any = inspect(image)["config"]
    assert configuration["User"] == "65532:65532"
    assert configuration["Entrypoint"] == [f"postwarden-{part}"]


def test_it_runs_on_a_read_only_root_file_system(part: str, run: Run) -> None:
    done = run(f"postwarden-{part}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:")
    assert run("touch", "/opt/postwarden/new").returncode != 0
    version = run(f"postwarden-{part}", "--version")
    assert re.fullmatch(rf"postwarden-{part}, version \d+\.\d+\.\d+\n", version.stdout)


def test_all_that_it_imports_at_work_is_there(part: str, run: Run) -> None:
    modules = {
        "sidecar": "postwarden_sidecar.supervisor.supervisor, postwarden_sidecar.worker.__main__",
        "operator": "postwarden_operator.kube.operator",
    }
    done = run("python3", "-c", f"import {modules[part]}; print('all there')")
    assert (done.returncode, done.stdout) == (0, "all there\n"), done.stderr


@pytest.mark.parametrize("part", ["sidecar"], indirect=True)
def test_what_redirects_clients_is_there_and_its_user_may_not(run: Run) -> None:
    options = ("init-redirect", "--port=25", "--listen=:10025")
    assert run("postwarden-sidecar", *options, "--dry-run").returncode == 0
    refused = run("postwarden-sidecar", *options)
    assert (refused.returncode, "NET_ADMIN is missing" in refused.stderr) == (1, True), refused.stderr


def test_the_other_half_is_not_there(part: str, root: Path, run: Run) -> None:
    other = {"sidecar": "operator", "operator": "sidecar"}[part]
    assert run("python3", "-c", f"import postwarden_{other}").returncode != 0
    assert sorted(path.name for path in (root / "opt/postwarden/bin").glob("*postwarden*")) == [
        f"postwarden-{part}"
    ]


def test_nothing_in_it_installs_or_compiles_programs(root: Path, run: Run) -> None:
    folders = ("opt/postwarden/bin", "usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin")
    found = [
        path for folder in folders for path in (root / folder).glob("*") if BUILDERS.fullmatch(path.name)
    ]
    assert found == []
    for module in ("pip", "ensurepip", "setuptools"):
        for interpreter in ("/opt/postwarden/bin/python3", "/usr/bin/python3"):
            assert run(interpreter, "-c", f"import {module}").returncode != 0, f"{interpreter} has {module}"
    assert not list(root.glob("usr/share/python-wheels/*.whl"))


def test_it_is_small(part: str, root: Path) -> None:
    with unpacked(BASE) as base:
        megabytes = (size(root) - size(base)) / 1e6
    print(f"{part}: {megabytes:.0f} MB beyond the base")
    assert megabytes < LARGEST[part]


def test_no_secret_of_the_build_stays_in_it(image: Image, root: Path) -> None:
    told = str(inspect(image))
    assert not re.search(r"https?://|index-url|BEGIN CERTIFICATE", told)
    assert "/root" not in told
    assert not (root / "etc/pip.conf").exists() or (root / "etc/pip.conf").read_text() == ""
    assert not (root / "run/secrets/ca.pem").exists() or (root / "run/secrets/ca.pem").read_text() == ""
