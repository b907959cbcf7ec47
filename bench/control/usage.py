"""What a process and its children cost: CPU seconds and memory, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 1024.0


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu: seconds since the start of all living processes of the tree. rss: MiB resident, summed."""

    cpu: float
    rss: float


def usage(pid: int) -> Usage:
    """Of the process and its living descendants. Raises OSError where it is gone."""
    cpu, rss = _own(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        below = usage(int(child))
        cpu, rss = cpu + below.cpu, rss + below.rss
    return Usage(cpu, rss)


def _own(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return (int(fields[11]) + int(fields[12])) / _TICK, int(resident.split()[1]) / _MIB
