"""A million networks in the access list: what a look-up takes, what a network takes of memory, and what a change of one line does.

The list lies in 24 ConfigMaps, of which a change is to one: they are files here, and reading YAML takes 4 s a MiB, so that larger ones, as
a cluster can have them, would tell of YAML only (`e2e/test_large_lists.py` prints what a cluster takes). Memory is the whole pod's with two
workers, so that what is shared counts once and what is not twice. Workers and clients have one core, operator and supervisor the other:
a longer wait of a client is then a pause of its worker, and not of the machine.
"""

import os
import random
import socket
import statistics
import time
from bisect import insort
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from harness.polling import poll
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.supervisor.state_directory import StateDirectory

from bench.control_group import wait_until_quiet
from bench.figures.figure import Figure, Said
from bench.load_generator import Load, run_load
from bench.systems.pod import Pod, config_map, pod, policy
from bench.systems.sink import sink

NAME = "million"
TITLE = "1,000,000 networks in the access list"

NETWORKS, SOURCES = 1_000_000, 24

CLIENTS = "127.32.0.0"
"""Listed by a rule of their own before the list: those that are timed."""

MARKS = "127.200.0."
"""Listed one after the other, as signs that a list is in force."""

SPEC = f"""
  access:
    myNetworks: []
    rejectAction: Drop
    rules:
      - {{action: Reject, cidrs: [{CLIENTS}/16]}}
      - action: Reject
        listFrom:
          sources: [{", ".join(f"{{configMapKeyRef: {{name: zombies-{part}, key: networks}}}}" for part in range(SOURCES))}]
  pregreet: {{banner: ""}}
"""

RATE = 500.0
"""Clients a second that are timed: a look each 2 ms for a pause."""

FIRST_WITHIN, CHANGED_WITHIN = 60.0, 20.0

CHANGES = 5
BREATH, SOON = 1.0, 1.5
"""Seconds between two changes, and those that one takes or less."""

LOOPBACK = 127

LOOKUPS = 100_000
REPEATS = 5


def study(rounds: int, scale: float, said: Said) -> Sequence[Figure]:
    """See Study."""
    networks = _networks(round(NETWORKS * scale))
    with _divided_cores() as ours, sink(proxy=True) as upstream:
        documents = [policy(SPEC), *(config_map(f"zombies-{part}", ["192.0.2.1"]) for part in range(SOURCES))]
        with pod(documents, upstream=upstream, handoff="proxy-v2", options=["--workers=2"]) as started:
            for worker in started.sidecar.workers():
                os.sched_setaffinity(worker, ours)
            run_load(Load("drop", 2_000, 16, sources=f"{CLIENTS}:1000"), started.address)
            wait_until_quiet([started.group])
            empty = started.group.memory()
            lists = _Lists(started, networks)
            first = lists.put(0, FIRST_WITHIN)
            wait_until_quiet([started.group])
            time.sleep(BREATH)
            bytes_each = (started.group.memory() - empty) / len(networks)
            table = _table(started)
            shared = sum(len(shard) for shard in table.v4) / len(networks)
            hit, miss = _lookup_times(table, networks)
            said(
                f"{NAME}: in force after {first:.2f} s; {bytes_each:.1f} bytes each; look-up {hit:.2f} us, {miss:.2f} us without a hit"
            )
            idle = _slowest(ours, started, CHANGES * BREATH)
            with ThreadPoolExecutor(1) as others:
                timed = others.submit(_slowest, ours, started, CHANGES * (BREATH + SOON))
                changed = []
                for change in range(1, CHANGES + 1):
                    time.sleep(BREATH)
                    changed.append(lists.put(change, CHANGED_WITHIN))
                swapping = timed.result()
            said(
                f"{NAME}: a line more after {max(changed):.2f} s; slowest verdict {idle:.1f} ms, at swaps {swapping:.1f} ms"
            )
    return [
        Figure("look-up of a listed address", hit, "us", at_most=2.0, note=f"{len(table)} rows"),
        Figure("look-up of another", miss, "us", at_most=2.0),
        Figure("table, shared by all workers", shared, "bytes a network", at_most=20.0),
        Figure("growth of the pod's PSS, 2 workers", bytes_each, "bytes a network"),
        Figure("the whole list in force after", first, "s"),
        Figure("one line more in force after", max(changed), "s", at_most=2.0, note=f"slowest of {CHANGES}"),
        Figure("slowest verdict without a change", idle, "ms"),
        Figure("slowest verdict at swaps", swapping, "ms", at_most=20.0, note=f"of {CHANGES} swaps"),
    ]


class _Lists:
    """The list in its ConfigMaps. A change is one line more in the middle: all lines after it are counted one further."""

    def __init__(self, started: Pod, networks: Sequence[str]) -> None:
        size = len(networks) // SOURCES + 1
        self._parts = [list(networks[at : at + size]) for at in range(0, len(networks), size)]
        self._marked = next(
            at for at, part in enumerate(self._parts) if _number(part[-1]) > _number(MARKS + "0")
        )
        self._pod = started

    def put(self, change: int, within: float) -> float:
        """Seconds until it is in force. change: 0 is the whole list."""
        mark = f"{MARKS}{change}"
        marked = self._parts[self._marked]
        insort(marked, mark, key=_number)
        documents = {
            part: config_map(f"zombies-{part}", self._parts[part])
            for part in (range(SOURCES) if change == 0 else [self._marked])
        }
        began = time.monotonic()
        for part, document in documents.items():
            path = self._pod.policies / f"{part + 1}.yaml"
            path.with_suffix(".new").write_text(document)
            path.with_suffix(".new").replace(path)
        poll(lambda: _turned_away(self._pod, mark), within, self._pod.sidecar.log_text)
        return time.monotonic() - began


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def _networks(count: int) -> list[str]:
    """Addresses in order, none of them of loopback."""
    drawn = random.Random(5).sample(range(1 << 24, 223 << 24), count)  # noqa: S311  (no secret)
    return [socket.inet_ntoa(each.to_bytes(4, "big")) for each in sorted(drawn) if each >> 24 != LOOPBACK]


def _turned_away(started: Pod, source: str) -> bool:
    with socket.create_connection((started.sidecar.host, started.sidecar.port), 10.0, (source, 0)) as client:
        return client.recv(512).startswith(b"521")


@contextmanager
def _divided_cores() -> Iterator[set[int]]:
    """This process and what it starts has the last core; the others are for the workers, unless there is only one."""
    before = os.sched_getaffinity(0)
    last = max(before)
    os.sched_setaffinity(0, {last})
    try:
        yield before - {last} or {last}
    finally:
        os.sched_setaffinity(0, before)


def _slowest(cores: set[int], started: Pod, seconds: float) -> float:
    """Milliseconds: the slowest verdict of a client each 2 ms. In a thread of its own: it changes to these cores."""
    os.sched_setaffinity(0, cores)
    load = Load("drop", round(RATE * seconds), 1, rate=RATE, sources=f"{CLIENTS}:1000")
    return run_load(load, started.address).latency_us["max"] / 1e3


def _table(started: Pod) -> AddressTable:
    """The list, as the sidecar has it on disk."""
    kept = StateDirectory(started.state).load_rules()
    assert kept is not None
    os.close(kept.descriptor)
    return kept.rules.access.rules[1].table


def _lookup_times(table: AddressTable, networks: Sequence[str]) -> tuple[float, float]:
    """Microseconds of a look-up of those that are listed, and of others."""
    chance = random.Random(0)  # noqa: S311  (no secret)
    listed = [socket.inet_aton(each) for each in chance.sample(networks, min(LOOKUPS, len(networks)))]
    others = [each for each in (chance.randbytes(4) for _ in range(LOOKUPS)) if table.lookup(each) is None]
    return _each(table, listed), _each(table, others)


def _each(table: AddressTable, addresses: Sequence[bytes]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for address in addresses:
            table.lookup(address)
        times.append((time.perf_counter() - began) / len(addresses))
    return statistics.median(times) * 1e6
