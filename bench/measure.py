"""One case, all its systems, in rounds: each round starts, loads and ends every system once, in an order that changes from round to round.

Interleaved so that a slower minute of the machine is everybody's; anew each time, because two starts of the same program differ by some
percent.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.cases.case import Case
from bench.control_group import wait_until_quiet
from bench.load_generator import Load, LoadFailed, LoadResult, run_load
from bench.summary import Sample
from bench.systems.system import Running, System

MEMORY_INTERVAL = 0.5
"""Seconds between two looks at the memory: a look takes the kernel some milliseconds."""


def measure(
    case: Case,
    systems: Sequence[System],
    rounds: int,
    *,
    scale: float = 1.0,
    said: Callable[[str], None],
) -> dict[str, list[Sample]]:
    """By system, in the order of the rounds. scale: of the number of connections. Raises LoadFailed."""
    chance = random.Random(0)  # noqa: S311  (no secret)
    found: dict[str, list[Sample]] = {system.name: [] for system in systems}
    for number in range(rounds):
        for system in chance.sample(systems, len(systems)):
            sample = measure_once(case, system, scale)
            found[system.name].append(sample)
            said(
                f"{case.name} {number + 1}/{rounds} {system.name}: {sample.per_cpu_second:,.0f} a CPU second, "
                f"{sample.per_second:,.0f} a second, p50 {sample.p50_us / 1000:.2f} ms, p99 {sample.p99_us / 1000:.2f} ms"
            )
    return found


def measure_once(case: Case, system: System, scale: float) -> Sample:
    """Start it, load it, end it. Raises LoadFailed."""
    with system.start(case) as running:
        if case.visit is not None and not running.knows_clients:
            run_load(case.visit, running.address)
        _loaded(case, system, running, case.warm_up)
        groups = {"server": running.server, **running.others}
        wait_until_quiet(groups.values())
        lines = _lines(running.log)
        before = {role: group.cpu_seconds() for role, group in groups.items()}
        load = replace(case.load, connections=round(case.load.connections * scale))
        with _memory_watched(running):
            result = _loaded(case, system, running, load)
        wait_until_quiet(groups.values())
        spent = {role: group.cpu_seconds() - before[role] for role, group in groups.items()}
        return Sample(
            connections=result.connections,
            seconds=result.seconds,
            cpu_seconds=spent.pop("server"),
            p50_us=result.latency_us["p50"],
            p99_us=result.latency_us["p99"],
            peak_memory=running.server.peak_memory(),
            log_lines=_lines(running.log) - lines,
            others=spent,
        )


def _lines(log: Path | None) -> int:
    """How many there are."""
    if log is None:
        return 0
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _loaded(case: Case, system: System, running: Running, load: Load) -> LoadResult:
    """Raises LoadFailed where the clients were not answered as the case wants it."""
    load = replace(load, mode=case.modes.get(system.name, load.mode))
    try:
        result = run_load(load, running.address)
    except LoadFailed as failure:
        raise LoadFailed(f"{case.name}, {system.name}: {failure}") from failure
    if odd := _odd(result.replies, case.replies):
        raise LoadFailed(f"{case.name}, {system.name}: replies that the case does not have: {odd}")
    return result


def _odd(replies: Mapping[str, int], wanted: frozenset[str]) -> dict[str, int]:
    return {code: count for code, count in replies.items() if code not in wanted}


@contextmanager
def _memory_watched(running: Running) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while True:
            running.server.memory()
            if ended.wait(MEMORY_INTERVAL):
                return

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
