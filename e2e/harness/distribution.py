"""Which tests run in the same process when several run at once (pytest-xdist, `--dist loadfile`).

Contract: a file's tests stay together, and all of e2e/cluster/ do: they share one cluster, which is dear to start and large.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

CLUSTER_FOLDER = "e2e/cluster/"


class LoadFolderScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return CLUSTER_FOLDER if nodeid.startswith(CLUSTER_FOLDER) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFolderScheduling | None:
    """None: xdist's own choice, for other kinds of distribution."""
    return LoadFolderScheduling(config, log) if config.getoption("dist") == "loadfile" else None
