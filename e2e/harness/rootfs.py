"""Root folders: a Debian of its own for each mail server that the tests run, with the server and its users installed in it.

Contract: `debian_root` gives the path of a finished folder, made once for each list of packages in the cache, under a file lock, in
a partial folder that is renamed when all is done. The folder is shared by all runs and stays as it was made: mount it read-only.
Nothing is started in it while it is made (mmdebstrap sees to that).

Why not installed on the machine: Debian's mail servers exclude one another, and an install would replace the machine's own. Why not
container images: an engine and a registry would be needed; mmdebstrap needs the machine's package sources only.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.toolchain import apt_install, cache_dir, file_lock, say, unavailable

SUITE = "bookworm"
"""Debian 12, whose Postfix is 3.7.11."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Where the package debian-archive-keyring puts the keys of Debian's archive."""

BUILD_TIMEOUT = 280.0
"""Seconds for one folder; half a minute to a minute is usual, nearly all of it downloads and dpkg."""

_OPTIONS = (
    "--variant=minbase",
    "--quiet",
    # A folder that is thrown away when its making fails needs no fsync.
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    # mmdebstrap copies the machine's: a server in the folder is to know no resolver and no name of the machine.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)


def debian_root(
    name: str,
    packages: Sequence[str],
    *,
    preseed: Sequence[str] = (),
    commands: Sequence[str] = (),
    suite: str = SUITE,
) -> Path:
    """The root folder `name` with `packages` and what they depend on (no recommends), made now if the cache lacks it.

    `preseed` are debconf answers, each `package question type value`, so that no package asks anything.
    `commands` are run in the folder, by its shell, when all is installed.
    Skips or fails by `unavailable` where the user is not root or mmdebstrap can't make it (no network, unknown package).
    """
    recipe = repr((sorted(packages), list(preseed), list(commands), suite, _OPTIONS))
    result = cache_dir() / "rootfs" / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if os.geteuid() != 0:
        unavailable(f"root, to make and use the root folder {name}")
    if result.is_dir():
        return result
    apt_install(["mmdebstrap", "debian-archive-keyring"])
    with file_lock(result.with_suffix(".lock")):
        if not result.is_dir():
            _make(result, packages, preseed, commands, suite)
    return result


def _make(
    result: Path, packages: Sequence[str], preseed: Sequence[str], commands: Sequence[str], suite: str
) -> None:
    say(f"making a Debian {suite} folder with {', '.join(packages)} once in {result}; about a minute")
    start = time.monotonic()
    # Beside the result, for a rename must not cross file systems.
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=result.parent))
    try:
        root, answers = partial / "root", partial / "preseed"
        answers.write_text("".join(f"{line}\n" for line in preseed))
        command = [
            # Mounts of /proc, /sys and /dev in the folder must never be seen by the clean-up below.
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
            *("mmdebstrap", *_OPTIONS, f"--include={','.join(packages)}"),
            f'--essential-hook=chroot "$1" debconf-set-selections <"{answers}"',
            *(f'--customize-hook=chroot "$1" sh -euc {shlex.quote(line)}' for line in commands),
            *(suite, str(root), *_package_sources(suite)),
        ]
        try:
            made = subprocess.run(
                command, capture_output=True, text=True, timeout=BUILD_TIMEOUT, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            unavailable(
                f"a root folder with {', '.join(packages)}: mmdebstrap took more than {BUILD_TIMEOUT:.0f} s"
            )
        if made.returncode != 0:
            unavailable(f"a root folder with {', '.join(packages)}: mmdebstrap said:\n{made.stderr[-3000:]}")
        root.rename(result)
    finally:
        shutil.rmtree(partial)
    say(f"made {result.name} in {time.monotonic() - start:.0f} s")


def _package_sources(suite: str) -> list[str]:
    """The machine's own mirrors of Debian as sources.list lines for `suite`; none where it has none (mmdebstrap then uses its default)."""
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
    )
    # A mirror has all releases: bookworm-updates leads to that of another suite.
    found = re.findall(r"^(\S+) [a-z]+(|-updates|-security) main$", listed.stdout, re.MULTILINE)
    # A second architecture of the machine lists a source twice.
    return [f"deb [signed-by={KEYRING}] {uri} {suite}{part} main" for uri, part in dict.fromkeys(found)]
