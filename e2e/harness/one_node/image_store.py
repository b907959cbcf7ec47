"""The node's images, unpacked once: containerd's own folder, kept in the cache and hard-linked for each node.

Contract: `prepare_and_copy` brings the store to exactly the images asked for; the copy takes 0.6 s however large they are. Layers and blobs
are never written in place (they are lower layers of overlayfs), so a node may share their files; the databases are copied.

Why not imported at each start: a second for every 60 MB.
"""

import json
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


class ImportFailed(Exception):
    """containerd did not take an image; the text is what it said."""


def prepare_and_copy(images: Sequence[Image], target: Path) -> None:
    """`target`, which is made, becomes the root folder of a containerd that has `images`. Raises ImportFailed, TimeoutError."""
    store = cache_dir() / "node-images"
    with file_lock(cache_dir() / "node-images.lock"):
        _prepare(store, images)
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", "--link", store / "root", target], check=True)
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


def _prepare(store: Path, images: Sequence[Image]) -> None:
    listing = store / "images.json"
    loaded: dict[str, str] = json.loads(listing.read_text()) if listing.exists() else {}
    wanted = {image.name: image.key for image in images}
    if loaded == wanted:
        return
    # What a killed run left half done must not look finished.
    listing.unlink(missing_ok=True)
    if not loaded:
        shutil.rmtree(store, ignore_errors=True)
    (store / "root").mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="postwarden-containerd-") as directory:
        run = Path(directory)
        (run / "containerd.toml").write_text(idle_containerd(store / "root", run))
        process = LoggedProcess(
            ["containerd", "--config", run / "containerd.toml"],
            run / "log",
            {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        try:
            _wait_until_it_answers(process, run / "socket")
            for name in loaded.keys() - wanted.keys():
                subprocess.run(
                    ["ctr", f"--address={run / 'socket'}", "--namespace=k8s.io", "images", "rm", name],
                    check=True,
                    capture_output=True,
                )
            for image in images:
                if loaded.get(image.name) != image.key:
                    import_image(run / "socket", image)
        finally:
            process.terminate()
    listing.write_text(json.dumps(wanted))
    say(f"unpacked images for the node in {time.monotonic() - start:.0f} s")


def _wait_until_it_answers(process: LoggedProcess, socket: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while subprocess.run(["ctr", f"--address={socket}", "version"], capture_output=True).returncode != 0:
        if not process.alive() or time.monotonic() > end:
            raise TimeoutError(f"containerd does not answer:\n{process.tail()}")
        time.sleep(0.05)
