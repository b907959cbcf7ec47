"""The node's images, unpacked once: containerd's own folder, kept in the cache and hard-linked for each node.

Contract: `copy_store` gives a node the folder with just the images asked for, made now if the cache lacks it; the copy takes 0.6 s however
large they are. Layers and blobs are never written in place (they are lower layers of overlayfs), so a node may share their files; the
databases are copied.

Why not imported at each start: a second for every 60 MB. Why a folder for each set, and no update of the last one: containerd's garbage
collector takes away what a changed image and its successor share while the successor is imported (seen with 1.6).
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.cluster_process import LoggedProcess
from harness.images import Image
from harness.one_node.configuration import idle_containerd
from harness.toolchain import cache_dir, file_lock, say

START_TIMEOUT = 30.0
"""Seconds until an idle containerd answers; 0.3 s are usual."""

IMPORT_TIMEOUT = 200.0
"""Seconds for one image."""

KEPT = 2
"""Sets of images that stay in the cache, some 2 GB each: switching between two branches unpacks nothing."""


class ImportFailed(Exception):
    """containerd did not take an image; the text is what it said."""


def copy_store(images: Sequence[Image], target: Path) -> None:
    """`target`, which is made, becomes the root folder of a containerd that has `images`. Raises ImportFailed, TimeoutError."""
    stores = cache_dir() / "node-images"
    wanted = hashlib.sha256(repr(sorted((image.name, image.key) for image in images)).encode()).hexdigest()
    store = stores / wanted[:16]
    with file_lock(stores.with_suffix(".lock")):
        if store.exists():
            os.utime(store)
        else:
            _make(store, images)
        sets = [path for path in stores.iterdir() if path.is_dir()]
        for old in sorted(sets, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", "--link", store, target], check=True)
        for database in target.glob("*/*.db"):
            copy = database.with_suffix(".copy")
            shutil.copy2(database, copy)
            copy.replace(database)


def import_image(socket: Path, image: Image) -> None:
    """Raises ImportFailed."""
    done = subprocess.run(
        ["ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", image.archive],
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT,
    )
    if done.returncode != 0:
        raise ImportFailed(f"{image.name}: {done.stderr}{done.stdout}")


def _make(store: Path, images: Sequence[Image]) -> None:
    start = time.monotonic()
    # Beside the result, for a rename must not cross file systems; a killed run may have left it.
    partial = store.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="postwarden-containerd-") as directory:
        run = Path(directory)
        (run / "containerd.toml").write_text(idle_containerd(partial, run))
        process = LoggedProcess(
            ["containerd", "--config", run / "containerd.toml"],
            run / "log",
            {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        try:
            process.wait_until(lambda: _answers(run / "socket"), START_TIMEOUT, "answering")
            for image in images:
                import_image(run / "socket", image)
        finally:
            process.terminate()
    partial.rename(store)
    say(f"unpacked images for the node in {time.monotonic() - start:.0f} s")


def _answers(socket: Path) -> bool:
    return subprocess.run(["ctr", f"--address={socket}", "version"], capture_output=True).returncode == 0
