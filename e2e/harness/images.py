"""Container images of the tests' own: operator and sidecar from their Dockerfiles, and others made of Debian packages or one binary.

Contract: an `Image` is a name and an archive (docker-archive) in the cache, made once for each content of what it is made from, under a
file lock. Needs root and buildah (installed by apt where it is missing); no engine runs, nothing comes from an image registry: the base is
a Debian made by mmdebstrap. pip reads the machine's own settings, as secrets of the build.
"""

import hashlib
import inspect as inspect_source
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.rootfs import debian_root
from harness.toolchain import apt_install, cache_dir, file_lock, say

ROOT = Path(__file__).resolve().parents[2]

BASE = "localhost/python:3.11-slim"
"""The name of the Debian that stands in for the Dockerfiles' default base."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BUILD_TIMEOUT = 600.0
"""Seconds for one image; half a minute to two are usual, most of it downloads and the compiler."""

KEPT = 2
"""Archives of one image that stay in the cache: switching between two branches builds nothing."""

KEPT_LAYERS = 60
"""Images and layers in buildah's store before those that nothing names are removed: some 1 GB."""


@dataclass(frozen=True)
class Image:
    """name: as a pod names it. archive: for `images import`. key: changes with the content."""

    name: str
    archive: Path
    key: str


def project_image(part: str) -> Image:
    """`operator` or `sidecar`, by images/build.sh from this checkout: localhost/postwarden-PART:test."""
    packages = ["python3", "python3-venv", "ca-certificates"]
    base = debian_root("image-base", packages)
    name = f"localhost/postwarden-{part}:test"
    compiler = None
    if part == "sidecar":
        compiler = debian_root("image-compiler", [*packages, "gcc", "libc6-dev", "python3-dev"])
    key = _key(*_sources(part), base.name, compiler.name if compiler else "")
    return _made(name, key, lambda: _build_project_image(part, name, base, compiler))


def debian_image(name: str, root: Path, files: Mapping[str, str], command: Sequence[str]) -> Image:
    """localhost/NAME:test from a root folder of `debian_root`, with `files` (path -> text) added. It runs `command` as root."""
    full = f"localhost/{name}:test"

    def build() -> None:
        with tempfile.TemporaryDirectory() as directory:
            for path, text in files.items():
                target = Path(directory) / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                target.chmod(0o755 if text.startswith("#!") else 0o644)
            _commit(
                full,
                [root, Path(directory)],
                ["--env", f"PATH={PATH}", "--entrypoint", json.dumps(list(command))],
            )

    return _made(full, _key(root.name.encode(), repr(files), repr(command)), build)


def binary_image(name: str, binary: Path, *, key: str) -> Image:
    """localhost/NAME:test: a static binary at /NAME, and nothing else. `key` tells its content."""
    full = f"localhost/{name}:test"

    def build() -> None:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy(binary, Path(directory) / name)
            _commit(full, [Path(directory)], ["--entrypoint", json.dumps([f"/{name}"])])

    return _made(full, _key(key), build)


def storage() -> list[str]:
    """buildah with a store of its own in the cache."""
    store = cache_dir() / "buildah"
    return [
        "buildah",
        "--root",
        str(store / "root"),
        "--runroot",
        str(store / "run"),
        "--storage-driver",
        "overlay",
    ]


def inspect(image: Image) -> dict[str, object]:
    """Its OCI configuration: config, history, rootfs."""
    described = json.loads(_run([*storage(), "inspect", "--type", "image", image.name]))
    configuration: dict[str, object] = described["OCIv1"]
    return configuration


@contextmanager
def unpacked(name: str) -> Iterator[Path]:
    """The root file system of an image in buildah's store, mounted while the block runs."""
    container = _run([*storage(), "from", "--pull-never", name]).strip()
    try:
        yield Path(_run([*storage(), "mount", container]).strip())
    finally:
        _run([*storage(), "rm", container])


def _made(name: str, key: str, build: Callable[[], None]) -> Image:
    short = name.removeprefix("localhost/").partition(":")[0]
    archive = cache_dir() / "images" / f"{short}-{key}.tar"
    image = Image(name, archive, key)
    with file_lock(cache_dir() / "images.lock"):
        if archive.exists():
            archive.touch()
            return image
        apt_install([package for package in ("buildah",) if shutil.which(package) is None])
        start = time.monotonic()
        say(f"making the image {name}")
        build()
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        _run([*storage(), "push", "--quiet", name, f"docker-archive:{partial}:{name}"])
        partial.rename(archive)
        older = sorted(
            archive.parent.glob(f"{short}-{'?' * len(key)}.tar"), key=lambda each: each.stat().st_mtime
        )
        for path in older[:-KEPT]:
            path.unlink()
        if len(_run([*storage(), "images", "--all", "--quiet"]).split()) > KEPT_LAYERS:
            _run([*storage(), "rmi", "--prune"])
        say(f"made the image {name} in {time.monotonic() - start:.0f} s")
    return image


def _build_project_image(part: str, name: str, base: Path, compiler: Path | None) -> None:
    # The Dockerfile's history names its base: the name is the ordinary one.
    _run([*storage(), "tag", _tagged(base), BASE])
    with tempfile.TemporaryDirectory() as directory:
        pipconf, ca = Path(directory) / "pip.conf", Path(directory) / "ca.pem"
        settings, authorities = _pip_settings()
        ca.write_bytes(authorities)
        pipconf.write_text(
            "".join(["[global]\n", *(f"{key} = {value}\n" for key, value in settings.items())])
        )
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PIP_")},
            "BUILDER": " ".join(storage()),
            "BASE_IMAGE": BASE,
            "BUILD_IMAGE": _tagged(compiler) if compiler else "",
            "IMAGE_PREFIX": "localhost/postwarden-",
            "IMAGE_TAG": "test",
            "PIP_CONF": str(pipconf),
            "CA": str(ca),
            "BUILD_OPTIONS": "--isolation chroot --layers --pull-never",
        }
        said = _run(["sh", "images/build.sh", part], environment=environment)
        say(said.strip().splitlines()[-1])  # its name and size


def _tagged(root: Path) -> str:
    """The name of an image of this root folder, made if it is not in buildah's store."""
    name = f"{BASE}-{root.name}"
    if not _run([*storage(), "images", "--quiet", "--filter", f"reference={name}"]).split():
        _commit(name, [root], ["--env", f"PATH={PATH}"])
    return name


def _pip_settings() -> tuple[dict[str, str], bytes]:
    """The machine's settings of pip that say where packages come from, and the CA certificates to trust for it."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    values = dict(line.partition("=")[::2] for line in listed.splitlines())
    settings = {}
    for name in ("index-url", "extra-index-url", "trusted-host", "timeout"):
        for source in (f"global.{name}", f":env:.{name}"):
            if source in values:
                settings[name] = values[source].strip("'")
    own = next(
        (values[name].strip("'") for name in (":env:.cert", "global.cert") if name in values),
        os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE"),
    )
    if own is None:
        return settings, b""
    return settings | {"cert": "/run/secrets/ca.pem"}, Path(own).read_bytes()


def _commit(name: str, layers: Sequence[Path], configuration: Sequence[str]) -> None:
    container = _run([*storage(), "from", "scratch"]).strip()
    try:
        for layer in layers:
            # A folder would lose its owners: Postfix's queue belongs to users of its own.
            with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
                _run(
                    [
                        "tar",
                        "--numeric-owner",
                        "--directory",
                        str(layer),
                        "--create",
                        "--file",
                        packed.name,
                        ".",
                    ]
                )
                _run([*storage(), "add", "--quiet", container, packed.name, "/"])
        _run([*storage(), "config", *configuration, container])
        _run([*storage(), "commit", "--quiet", container, name])
    finally:
        _run([*storage(), "rm", container])


def _sources(part: str) -> Iterator[bytes]:
    """All that an image of the project is made from, names included."""
    files = [
        ROOT / "images" / "build.sh",
        ROOT / "images" / part / "Dockerfile",
        ROOT / ".dockerignore",
        ROOT / "pyproject.toml",
        ROOT / "requirements" / f"{part}.lock",
    ]
    build = "compile" if part == "sidecar" else "build"
    files += [ROOT / "hatch_build.py", ROOT / "requirements" / f"{build}.lock"]
    for folder in (ROOT / "proto", ROOT / part):
        files += sorted(
            path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
    for path in files:
        yield str(path.relative_to(ROOT)).encode()
        yield path.read_bytes()


def _key(*parts: bytes | str) -> str:
    digest = hashlib.sha256(inspect_source.getsource(_commit).encode())
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:16]


def _run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        pytest.fail(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-4000:]}", pytrace=False)
    return done.stdout
