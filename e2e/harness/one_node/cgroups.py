"""The node's cgroups: one of its name in every hierarchy, so that kubelet's are below it and vanish with it.

Only hierarchies of version 1 (a hybrid machine, too): the pods' controllers are bound to them there.
"""

import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

END_TIMEOUT = 10.0
"""Seconds until the kernel has let go of the processes that were killed; 0.1 s are usual."""


def hierarchies() -> list[Path]:
    """Each hierarchy of version 1 that is mounted here; none on a machine that has version 2 only."""
    if not (ROOT / "memory").is_dir():
        return []
    return [path for path in ROOT.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists()]


def make(name: str) -> list[Path]:
    """The group NAME/system in each, for the node's own programs."""
    made = []
    for hierarchy in hierarchies():
        group = hierarchy / name / "system"
        group.mkdir(parents=True, exist_ok=True)
        if hierarchy.name == "cpuset":
            # A new one has no processors and no memory, and takes no process.
            for folder in (group.parent, group):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((hierarchy / file).read_text())
        made.append(group)
    return made


def remove(name: str) -> None:
    """NAME and all below it. Raises OSError where a process is still there after END_TIMEOUT."""
    end = time.monotonic() + END_TIMEOUT
    for hierarchy in hierarchies():
        while (hierarchy / name).exists():
            try:
                for folder in sorted((hierarchy / name).rglob("*"), reverse=True):
                    if folder.is_dir():
                        folder.rmdir()
                (hierarchy / name).rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
