"""Many clients that wait for the greeting: what each costs the worker, what it costs the kernel, and whether others wait longer for it.

The kernel's share is what all its caches grow by for a connection; the client's end, which is here too, is half of it.
"""

import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.netns import DIES_WITH_US
from harness.polling import poll

from bench.compile import compiled
from bench.control_group import parse_pss
from bench.figures.figure import Figure, Said
from bench.load_generator import Load, run_load
from bench.systems.pod import Pod, pod, policy
from bench.systems.sink import sink

NAME = "held"
TITLE = "clients held in pregreet"

CLIENTS = 15_000
"""Below RLIMIT_NOFILE's 20,000 that a worker often has."""

OTHERS = "127.32.0.0"
"""Those whose verdict is timed: the access list has them."""

SPEC = f"""
  access: {{myNetworks: [], rejectAction: Drop, rules: [{{action: Reject, cidrs: [{OTHERS}/16]}}]}}
  pregreet: {{wait: 60s}}
"""

ARRIVALS = 3000.0
"""A second, of those who wait: they are all there within 5 s."""

TIMED = Load("drop", connections=2_000, concurrency=8, rate=500, sources=f"{OTHERS}:1000")
WARM_UP = Load("drop", connections=10_000, concurrency=64, sources=f"{OTHERS}:1000")

TIMES = 3
"""How often they are timed: one process of the machine that runs at the wrong moment decides a p99."""

SETTLE = 2.0
"""Seconds before the memory is looked at, and until a rush is over."""

SCREENED_WITHIN = 30.0


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    clients = round(CLIENTS * scale)
    before, during, bytes_each, kernel = [], [], [], []
    for number in range(max(1, min(rounds, 3))):
        with (
            sink(proxy=True) as upstream,
            pod([policy(SPEC)], upstream=upstream, handoff="proxy-v2") as started,
        ):
            run_load(WARM_UP, started.address)
            time.sleep(SETTLE)
            before.append(_timed(started))
            empty, kernel_before = _pss(started.worker), slab_bytes(Path("/proc/slabinfo").read_text())
            with _held(started, clients):
                time.sleep(SETTLE)
                full, kernel_after = _pss(started.worker), slab_bytes(Path("/proc/slabinfo").read_text())
                during.append(_timed(started))
            bytes_each.append((full - empty) / clients)
            kernel.append((kernel_after - kernel_before) / clients / 2)
        said(
            f"{NAME} {number + 1}: {bytes_each[-1]:.0f} bytes each, the kernel's {kernel[-1]:.0f}; p99 of others {before[-1]:.0f} us, "
            f"then {during[-1]:.0f} us"
        )
    return [
        Figure(
            "PSS of each", statistics.median(bytes_each), "bytes", at_most=1536.0, note=f"{clients} clients"
        ),
        Figure("kernel memory of each", statistics.median(kernel), "bytes", note="one end"),
        Figure("p99 of others before", statistics.median(before), "us"),
        Figure("p99 of others meanwhile", statistics.median(during), "us"),
        Figure(
            "p99 of others, ratio",
            statistics.median(now / then for now, then in zip(during, before, strict=True)),
            "",
            at_most=1.2,
        ),
    ]


def _timed(started: Pod) -> float:
    """The others' p99, microseconds."""
    return statistics.median(run_load(TIMED, started.address).latency_us["p99"] for _ in range(TIMES))


def slab_bytes(text: str) -> int:
    """Of /proc/slabinfo: what the objects in use of all the kernel's caches take."""
    rows = [line.split() for line in text.splitlines()[2:]]  # without its version and head
    return sum(int(row[1]) * int(row[3]) for row in rows)


def _pss(pid: int) -> int:
    return parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text())


@contextmanager
def _held(started: Pod, clients: int) -> Iterator[None]:
    """So many wait within the block."""
    load = Load("hold", connections=clients, concurrency=clients, rate=ARRIVALS)
    command = [*DIES_WITH_US, str(compiled("load")), *load.command(started.address), "--timeout=120"]
    empty = started.sidecar.descriptors()[0]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        poll(
            lambda: started.sidecar.descriptors()[0] >= empty + clients,
            SCREENED_WITHIN,
            lambda: f"{started.sidecar.descriptors()[0] - empty} of {clients} clients wait",
        )
        # It looks at each of them in turn for a timeout: a millisecond of a core, 20 times a second.
        process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
