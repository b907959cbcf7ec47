"""Which tests run in the same process when several run at once (pytest-xdist, `--dist loadfile`), in which order, and in how many.

Contract: a file's tests stay together, and all of e2e/cluster/ do: they share one cluster, which is dear to start and large. They begin
first, for nothing else takes as long; then an outage of minutes, the unit tests of compiled code, and the files with most tests.
`--numprocesses auto` is one process more than there are cores.
"""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

CLUSTER_FOLDER = "e2e/cluster/"

FIRST = (CLUSTER_FOLDER, "e2e/test_long_outage.py", "e2e/test_compiled.py")
"""In this order. At the end all others would wait for one that only waits itself."""


class LoadFolderScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER_FOLDER if nodeid.startswith(CLUSTER_FOLDER) else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: Any) -> None:
        for scope in reversed(FIRST):
            if scope in self.workqueue:
                self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFolderScheduling | None:
    """None: xdist's own choice, for other kinds of distribution."""
    return LoadFolderScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The tests wait more than half of their time, those in the cluster for its pods nearly all of it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1
