"""How many workers a container's CPU limit is good for: the limit rounded up; without a limit one, for a
sidecar that takes every core of a node would take them from the MTA.
"""

from __future__ import annotations

import math
from pathlib import Path

from postwarden_sidecar.ipc.page import MAX_WORKERS

CGROUP = Path("/sys/fs/cgroup")  # as a container sees its own cgroup


def workers_by_cpu_limit(cgroup: Path = CGROUP) -> int:
    """1 to MAX_WORKERS. Reads cpu.max (cgroup v2) or cpu.cfs_*_us (v1); what can't be read is no limit."""
    limit = _limit(cgroup)
    return 1 if limit is None else max(1, min(math.ceil(limit), MAX_WORKERS))


def _limit(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text("ascii").split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text("ascii").strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text("ascii").strip()
        if quota in ("max", "-1"):
            return None
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
