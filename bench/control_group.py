"""Control groups: what a group of processes costs, those it starts later and those that have ended included.

Contract: `with ControlGroup(name) as group:`, then `with group.joined():` around whatever starts the processes; what is started within
belongs to the group, with all its children. It needs root. At the end of the block the group is removed; its processes must be gone.

CPU time is the kernel's count for the group: `cpu.stat` in version 2, `cpuacct.usage` in version 1. Memory is the sum of the processes'
PSS and not the kernel's count for the group: that has the log files' page cache in it, and charges a shared library to whoever read it
first.
"""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

REMOVE_TIMEOUT = 10.0
"""Seconds until killed processes have left their group; milliseconds are usual."""

Mounts = tuple[tuple[str, str, frozenset[str]], ...]
"""Type, place and options of each mount."""


def parse_mounts(text: str) -> Mounts:
    """Of /proc/mounts."""
    fields = [line.split() for line in text.splitlines()]
    return tuple((each[2], each[1], frozenset(each[3].split(","))) for each in fields)


def choose_hierarchy(mounts: Mounts) -> tuple[Path, int]:
    """Where groups are made, and the version. Version 1 where it has the CPU accounting (a hybrid machine's version 2 may lack it)."""
    for kind, place, options in mounts:
        if kind == "cgroup" and "cpuacct" in options:
            return Path(place), 1
    for kind, place, _ in mounts:
        if kind == "cgroup2":
            return Path(place), 2
    raise RuntimeError("no control groups here: mount cgroup2 at /sys/fs/cgroup")


def parse_cpu_stat(text: str) -> float:
    """Seconds, of version 2's cpu.stat."""
    found = dict(line.split() for line in text.splitlines())
    return int(found["usage_usec"]) / 1e6


def parse_pss(text: str) -> int:
    """Bytes, of smaps_rollup."""
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


class ControlGroup:
    """name: of the role, unique among those open in this process."""

    def __init__(self, name: str) -> None:
        hierarchy, self._version = choose_hierarchy(parse_mounts(Path("/proc/mounts").read_text()))
        self._path = hierarchy / f"postwarden-bench-{os.getpid()}-{name}"
        self._outside = hierarchy / _own_group("cpuacct" if self._version == 1 else "")
        self._peak = 0

    def __enter__(self) -> Self:
        self._path.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + REMOVE_TIMEOUT
        while True:
            try:
                self._path.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """This process is in the group within the block, and so is what it starts."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (self._outside / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> list[int]:
        """Those that are there now."""
        return [int(line) for line in (self._path / "cgroup.procs").read_text().split()]

    def cpu_seconds(self) -> float:
        """Of all processes that are or were in it, user and system."""
        if self._version == 2:
            return parse_cpu_stat((self._path / "cpu.stat").read_text())
        return int((self._path / "cpuacct.usage").read_text()) / 1e9

    def memory(self) -> int:
        """Bytes of PSS now. It also counts for `peak_memory`."""
        total = 0
        for pid in self.processes():
            try:
                total += parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text())
            except (FileNotFoundError, ProcessLookupError, StopIteration):
                continue  # it has just ended
        self._peak = max(self._peak, total)
        return total

    def peak_memory(self) -> int:
        """The most that `memory` has seen."""
        return self._peak


def wait_until_quiet(
    groups: Collection[ControlGroup],
    *,
    share: float = 0.02,
    interval: float = 0.25,
    timeout: float = 10.0,
) -> None:
    """Return when the groups together take less than `share` of a core for `interval` seconds, or after `timeout`: loggers lag behind."""
    deadline = time.monotonic() + timeout
    before = sum(group.cpu_seconds() for group in groups)
    while time.monotonic() < deadline:
        time.sleep(interval)
        spent = sum(group.cpu_seconds() for group in groups)
        if spent - before < share * interval:
            return
        before = spent


def _own_group(controller: str) -> str:
    """This process's group in the hierarchy, relative to its mount."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""
