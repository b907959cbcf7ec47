"""What the end-to-end tests need from outside: commands built from Go modules, and Debian packages.

Contract: `built(module)` gives a folder of finished binaries, made once for each content of go.mod, go.sum,
Go files and build flags, under a file lock, in a temporary folder that is renamed when all is done; so the cache never
holds half a build. `apt_install` adds Debian packages that are missing, never a mail server. What can't be
had ends the test: a failure where CI=true, else a skip that names it. Both say on stderr what they do, for a
cold build takes minutes.

Why built and not downloaded: a Go module is checked against go.sum, and no download site has to be named or
trusted.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

TOOLS_MODULE = Path(__file__).parent.parent / "tools"

PROGRESS_INTERVAL = 20.0
"""Seconds between two lines of progress: often enough to see that a build of minutes is alive."""

APT_TIMEOUT = 600.0
"""Seconds for one run of apt-get; an ordinary one takes well under a minute."""


@dataclass(frozen=True)
class GoModule:
    """A folder with go.mod and go.sum, and the commands (name of the binary -> package) to build from it.

    It may hold Go files of its own.
    """

    directory: Path
    commands: Mapping[str, str]
    ldflags: str = "-s -w"

    def build_flags(self) -> list[str]:
        """The flags of `go build`. VCS stamping is off: the binary depends on the module alone."""
        return ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", self.ldflags]

    def key(self) -> str:
        """A hash of all that decides on the result; it can be computed where Go is missing."""
        digest = hashlib.sha256()
        for part in (
            (self.directory / "go.mod").read_bytes(),
            (self.directory / "go.sum").read_bytes(),
            *(source.read_bytes() for source in sorted(self.directory.glob("*.go"))),
            repr(
                (sorted(self.commands.items()), self.build_flags(), platform.system(), platform.machine())
            ).encode(),
            *(source.read_bytes() for source in sorted(self.directory.glob("*.go"))),
        ):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:20]


@dataclass(frozen=True)
class KubernetesTools:
    """Paths of the binaries of an API server and its client."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path


def say(line: str) -> None:
    """One line on stderr, at once."""
    print(f"[e2e] {line}", file=sys.stderr, flush=True)


def unavailable(what: str) -> NoReturn:
    """End the running test because a part is missing: a failure where CI=true, a skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")


def cache_dir() -> Path:
    """For what outlives a test run: $POSTWARDEN_CACHE, $XDG_CACHE_HOME/postwarden, ~/.cache/postwarden."""
    if own := os.environ.get("POSTWARDEN_CACHE"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "postwarden"
    return Path.home() / ".cache" / "postwarden"


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among processes; the kernel frees it when the holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def kubernetes_tools() -> KubernetesTools:
    """etcd, kube-apiserver and kubectl: those of KUBEBUILDER_ASSETS if it is set, else built from e2e/tools.

    Fails the test if KUBEBUILDER_ASSETS is set and lacks one of them, or if the build fails.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        directory = Path(assets)
        for name in ("etcd", "kube-apiserver", "kubectl"):
            if not os.access(directory / name, os.X_OK):
                pytest.fail(
                    f"KUBEBUILDER_ASSETS={assets} holds no executable {name}: correct or unset it",
                    pytrace=False,
                )
    else:
        directory = built(tools_module())
    return KubernetesTools(directory / "etcd", directory / "kube-apiserver", directory / "kubectl")


def tools_module() -> GoModule:
    """The module e2e/tools. The linker tells a binary its version: kubectl and feature gates want one."""
    return GoModule(
        TOOLS_MODULE,
        commands={
            "etcd": "go.etcd.io/etcd/server/v3",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        },
        ldflags=kubernetes_ldflags(TOOLS_MODULE),
    )


def kubernetes_ldflags(directory: Path) -> str:
    """What the linker is to tell commands of the Kubernetes release that go.mod in `directory` pins."""
    pinned = re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)\b", (directory / "go.mod").read_text())
    if pinned is None:
        raise ValueError(f"{directory / 'go.mod'} requires no release of k8s.io/kubernetes")
    version, major, minor = pinned.groups()
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamps.items())])


def built(module: GoModule) -> Path:
    """A folder that holds all commands of `module`, built now if the cache lacks them.

    Skips or fails by `unavailable` where Go is missing; fails the test, with the compiler's words, where the
    build fails.
    """
    result = cache_dir() / "tools" / module.key()
    if result.is_dir():
        return result
    with file_lock(result.with_suffix(".lock")):
        if not result.is_dir():
            _require_go(module)
            say(
                f"building {', '.join(module.commands)} into {result}, once: "
                "about 5 minutes on 2 cores if nothing is in Go's caches"
            )
            start = time.monotonic()
            # Beside the result, for a rename must not cross file systems; a killed build may have left it.
            partial = result.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                for name, package in module.commands.items():
                    _go_build(module, package, partial / name)
                partial.rename(result)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            say(f"built {', '.join(module.commands)} in {time.monotonic() - start:.0f} s")
    return result


def _require_go(module: GoModule) -> None:
    required = re.search(r"^go (\S+)$", (module.directory / "go.mod").read_text(), re.MULTILINE)
    wanted = f"Go {required[1] if required else ''} or newer, to build {', '.join(module.commands)}"
    if shutil.which("go") is None:
        unavailable(f"{wanted} (no `go` in PATH)")
    # Asked inside the module, so that Go's own choice of a toolchain is made, or refused, here.
    answer = subprocess.run(["go", "env", "GOVERSION"], cwd=module.directory, capture_output=True, text=True)
    if answer.returncode != 0:
        unavailable(f"{wanted} ({answer.stderr.strip()})")


def _go_build(module: GoModule, package: str, output: Path) -> None:
    # A build never outlives the test run that waits for it: the lock is free then.
    command = ["setpriv", "--pdeathsig", "KILL", "nice", "go", "build", "-v", *module.build_flags()]
    command += ["-o", str(output), package]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    last_lines: deque[str] = deque(maxlen=30)
    compiled = downloaded = 0
    start = reported = time.monotonic()
    with subprocess.Popen(
        command, cwd=module.directory, env=environment, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                last_lines.append(line)
                if line.startswith("go: downloading"):
                    downloaded += 1
                else:
                    compiled += 1
                if time.monotonic() - reported >= PROGRESS_INTERVAL:
                    reported = time.monotonic()
                    say(
                        f"  {output.name}: {downloaded} modules fetched, {compiled} packages compiled, "
                        f"{reported - start:.0f} s"
                    )
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        pytest.fail(
            f"`go build {package}` in {module.directory} failed:\n{''.join(last_lines)}", pytrace=False
        )
    say(f"  {output.name}: done, {compiled} packages compiled, {time.monotonic() - start:.0f} s")


def apt_install(packages: Sequence[str]) -> None:
    """Install those of `packages` that are missing with apt, without recommended ones.

    Skips or fails by `unavailable` where that is not possible: no apt, neither root nor a sudo without
    password, no such package. Fails the test if the install would bring a mail server or remove anything: a
    test must not change what the machine is for.
    """
    missing = [name for name in packages if not _debian_package_installed(name)]
    if not missing:
        return
    named = f"Debian packages {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        unavailable(f"{named} (no apt-get here: install what they contain by other means)")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if as_root and (shutil.which("sudo") is None or _run([*as_root, "true"]).returncode != 0):
        unavailable(
            f"{named} (neither root nor sudo without password: run `apt-get install {' '.join(missing)}`)"
        )
    with file_lock(cache_dir() / "apt.lock"):
        plan = _run(["apt-get", "--simulate", "--no-install-recommends", "install", *missing])
        if plan.returncode != 0:
            _apt_update(as_root)
            plan = _run(["apt-get", "--simulate", "--no-install-recommends", "install", *missing])
            if plan.returncode != 0:
                unavailable(f"{named}: {_last_error(plan)}")
        _refuse_harm(plan.stdout, named)
        say(f"apt-get install {' '.join(missing)}")
        install = [
            *as_root,
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=120",
            "--yes",
        ]
        install += ["--no-remove", "--no-install-recommends", "install", *missing]
        done = _run(install)
        if done.returncode != 0:
            # An old package list names versions that the mirror has no more.
            _apt_update(as_root)
            done = _run(install)
        if done.returncode != 0:
            unavailable(f"{named}: {_last_error(done)}")


def _refuse_harm(plan: str, named: str) -> None:
    """`plan` is apt-get's simulation: lines `Inst NAME ...` and `Remv NAME ...`."""
    if removed := re.findall(r"^Remv (\S+)", plan, re.MULTILINE):
        pytest.fail(f"{named}: apt-get would remove {' '.join(removed)}; nothing was changed", pytrace=False)
    for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE):
        shown = _run(["apt-cache", "show", "--no-all-versions", name]).stdout
        if re.search(r"^Provides:.*\bmail-transport-agent\b", shown, re.MULTILINE):
            pytest.fail(f"{named}: would install the mail server {name}; nothing was changed", pytrace=False)


def _debian_package_installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    return _run(["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]).stdout == "installed"


def _apt_update(as_root: Sequence[str]) -> None:
    say("apt-get update")
    _run([*as_root, "apt-get", "-o", "DPkg::Lock::Timeout=120", "update"])


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return " ".join(lines) or f"{done.args} exited {done.returncode}"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=APT_TIMEOUT, check=False)
