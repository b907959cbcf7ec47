"""The load generator (bench/load/load.c) as a Python call.

Contract: `run_load(load, address)` is through when all connections are; it raises LoadFailed where more of them than the
load tolerates were not as the mode wants them, for figures of a server that turns clients away mean nothing.
"""

import json
import subprocess
from dataclasses import dataclass

from bench.compile import compiled

SOURCES = 10_000
"""Client addresses: a botnet's many, and too many for any cache of clients."""

FIRST_SOURCE = "127.64.0.0"

LIMIT = 60.0
"""Seconds in which connections are begun."""


class LoadFailed(Exception):
    """The message has the generator's own words."""


@dataclass(frozen=True)
class Load:
    """What the clients do. mode: see `load --help`. rate: new connections a second; 0: as many as `concurrency` at a time give. tolerated:
    the share of them that may fail."""

    mode: str
    connections: int
    concurrency: int
    rate: float = 0.0
    sources: str = f"{FIRST_SOURCE}:{SOURCES}"
    argument: str = ""
    tolerated: float = 0.001

    def command(self, address: str) -> list[str]:
        """Without the program."""
        words = {
            "target": address,
            "mode": self.mode,
            "connections": str(self.connections),
            "concurrency": str(self.concurrency),
            "rate": str(self.rate),
            "sources": self.sources,
            "limit": str(LIMIT),
        }
        if self.argument:
            words["argument"] = self.argument
        return [f"--{name}={value}" for name, value in words.items()]


@dataclass(frozen=True)
class LoadResult:
    """latency_us: p50, p90, p99 and max of the time to the verdict. more: what the mode adds."""

    connections: int
    failures: dict[str, int]
    seconds: float
    replies: dict[str, int]
    latency_us: dict[str, float]
    more: dict[str, object]


def parse_result(text: str) -> LoadResult:
    """The generator's JSON object."""
    found = json.loads(text)
    known = {
        name: found.pop(name) for name in ("connections", "failures", "seconds", "replies", "latency_us")
    }
    return LoadResult(**known, more=found)


def run_load(load: Load, address: str) -> LoadResult:
    """See the module's contract."""
    done = subprocess.run(
        [compiled("load"), *load.command(address)], capture_output=True, text=True, timeout=LIMIT * 2
    )
    if not done.stdout:
        raise LoadFailed(done.stderr.strip())
    result = parse_result(done.stdout)
    failed = sum(result.failures.values())
    if failed > load.tolerated * load.connections or result.connections + failed < load.connections:
        raise LoadFailed(
            f"{result.connections} of {load.connections} connections were as wanted: failures {result.failures}, replies {result.replies};"
            f" {done.stderr.strip()}"
        )
    return result
