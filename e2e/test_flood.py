"""Floods of clients of every kind at a real sidecar: alone, while rules are swapped, while it drains, while its supervisor is stopped, and
while nobody reads its log. Everybody hears what is meant for him, nothing waits for telemetry, and nothing is left behind.

`make bench-leak` plays a million of them.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from harness.mail_attempt import first_reply
from harness.metrics_page import total
from harness.polling import poll
from harness.quick_mta import QuickMta
from harness.sidecar import Sidecar, up
from harness.storm import Storm, crowd, disperse
from harness.storm_clients import ALL, BAD, DENIED, GOOD, POLICY
from harness.usage import descriptors, processor_seconds, resident
from loopback_ports import free_ports

WARM_UP = 3_000
"""Connections after which what is opened once is open and what is bounded is nearly full."""

GROWTH = 8.0
"""MiB that a process may have grown by after many more: a leak of 1 KiB a connection would be twice that."""

SETTLED = 20.0
"""Seconds until all has been told that was under way; 1 s is usual."""

CLIENT = "127.65.0.1"
assert DENIED.startswith("127.65.0.")


@pytest.fixture(scope="module")
def mta() -> Iterator[QuickMta]:
    with QuickMta() as made:
        yield made


@contextmanager
def with_metrics(mta: QuickMta) -> Iterator[tuple[Sidecar, int]]:
    """And the port where it tells them."""
    (port,) = free_ports(1)
    with up(
        POLICY, f"--metrics=127.0.0.1:{port}", upstream=mta.address, handoff="plain", log_format="json"
    ) as sidecar:
        yield sidecar, port


def told(sidecar: Sidecar, port: int) -> int:
    """Connections that have a line in the log, or whose record or line was lost and counted."""
    lost = total(port, "postwarden_telemetry_dropped_total", postwarden_signal="record")
    lost += total(port, "postwarden_telemetry_dropped_total", postwarden_signal="line")
    return sum(line.startswith('{"time"') for line in sidecar.log()) + int(lost)


def idle(sidecar: Sidecar) -> list[int]:
    """Descriptors of all its processes, and then of none of its clients."""
    return [descriptors(pid) for pid in (sidecar.pid, *sidecar.workers())]


def memory(sidecar: Sidecar) -> list[float]:
    return [resident(pid) for pid in (sidecar.pid, *sidecar.workers())]


def test_twenty_thousand_clients_leave_no_descriptor_and_no_memory_behind(mta: QuickMta) -> None:
    with with_metrics(mta) as (sidecar, port):
        workers = sidecar.workers()
        storm = Storm(sidecar.host, sidecar.port, ALL)
        storm.run(WARM_UP)
        poll(lambda: told(sidecar, port) == WARM_UP, SETTLED, lambda: f"{told(sidecar, port)} are told")
        before, opened = memory(sidecar), idle(sidecar)
        storm.run(17_000)
        poll(lambda: told(sidecar, port) == 20_000, SETTLED, lambda: f"{told(sidecar, port)} are told")
        poll(lambda: idle(sidecar) == opened, SETTLED, lambda: f"{idle(sidecar)} open, {opened} were")
        after = memory(sidecar)
        for stage in ("screening", "dialog", "handoff", "relay"):
            assert total(port, "postwarden_connections_active", postwarden_stage=stage) == 0
        assert sidecar.workers() == workers
    assert max(now - then for now, then in zip(after, before, strict=True)) < GROWTH, (before, after)
    assert [name for name in storm.ended if name.endswith(", reset")] == [], (
        "who listened to the end was not reset"
    )
    assert mta.open == 0


@contextmanager
def storming(storm: Storm, count: int) -> Iterator[None]:
    """Clients come all the while; at the end of the block their last one has been served."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(storm.run, count)
        yield
        running.result()


def test_rules_are_swapped_under_a_flood(mta: QuickMta) -> None:
    storm_of = (*BAD[:1], *GOOD)
    with up(POLICY, upstream=mta.address, handoff="plain", log_format="json") as sidecar:
        workers = sidecar.workers()
        storm = Storm(sidecar.host, sidecar.port, storm_of)
        with storming(storm, 6_000):
            for turn in range(10):
                sidecar.edit(POLICY.replace("wait: 200ms", f"wait: {201 + turn}ms"))
        assert sidecar.workers() == workers
        assert sum(storm.ended.values()) == 6_000


def test_a_flood_does_not_keep_a_drain_from_ending(mta: QuickMta) -> None:
    """Clients come up to the last moment. Those who are taken are told to come again, unless they are denied anyway."""
    options = ("--drain-timeout=3s",)
    anything = [replace(kind, hears=(b"", b"")) for kind in (BAD[0], GOOD[0])]
    with up(POLICY, *options, upstream=mta.address, handoff="plain", log_format="json") as sidecar:
        storm = Storm(sidecar.host, sidecar.port, anything, refusals=True)
        ended = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(storm.run_until, ended.is_set)
            poll(lambda: storm.ended["denied"] > 500, SETTLED, lambda: "no flood")
            try:
                sidecar.terminate()
                assert sidecar.wait() == 0
            finally:
                ended.set()
            running.result()
        assert storm.heard[b"421"] > 0
        assert set(storm.heard) <= {b"521", b"421", b"220", b""}


def test_nothing_waits_for_a_supervisor_that_is_stopped(mta: QuickMta) -> None:
    """Records that find no room are counted, clients whose passes it would know wait once more, and once it goes on all is as before."""
    with with_metrics(mta) as (sidecar, port):
        workers = sidecar.workers()
        storm = Storm(sidecar.host, sidecar.port, ALL)
        storm.run(300)
        os.kill(sidecar.pid, signal.SIGSTOP)
        try:
            storm.run(6_000)
            used = processor_seconds(workers[0])
            time.sleep(2)
            rested = processor_seconds(workers[0]) - used
        finally:
            os.kill(sidecar.pid, signal.SIGCONT)
        storm.run(300)
        poll(lambda: told(sidecar, port) == 6_600, SETTLED, lambda: f"{told(sidecar, port)} are told")
        assert total(port, "postwarden_telemetry_dropped_total", postwarden_signal="record") > 1_000
        assert rested < 0.4, "a worker whose records nobody reads rests nevertheless"
        assert sidecar.workers() == workers
        sidecar.edit(POLICY.replace("Reject", "Permit"))
        assert first_reply(sidecar.address, CLIENT).startswith("220 ")


def test_nothing_waits_for_a_log_that_nobody_reads(mta: QuickMta) -> None:
    """Neither clients nor the supervisor's other work, its own warnings included. What is lost is counted."""
    (port,) = free_ports(1)
    read_end, write_end = os.pipe()
    with up(
        POLICY,
        f"--metrics=127.0.0.1:{port}",
        upstream=mta.address,
        handoff="plain",
        log_format="json",
        log=write_end,
    ) as sidecar:
        os.close(write_end)
        storm = Storm(sidecar.host, sidecar.port, ALL)
        storm.run(9_000)
        assert total(port, "postwarden_telemetry_dropped_total", postwarden_signal="record") > 1_000
        for turn in range(3):  # each is a warning in the log
            sidecar.replace_policy("nonsense")
            sidecar.edit(POLICY.replace("wait: 200ms", f"wait: {201 + turn}ms"))
        sidecar.edit(POLICY.replace("Reject", "Permit"))
        assert first_reply(sidecar.address, CLIENT).startswith("220 ")
        with ThreadPoolExecutor(1) as thread, os.fdopen(read_end, "rb") as log:
            reading = thread.submit(log.read)
            assert sidecar.stop() == 0
            lines = reading.result().splitlines()
    shown = sum(line.startswith(b'{"time"') for line in lines)
    assert 500 < shown < 9_000
    assert all(line.endswith(b"}") for line in lines if line.startswith(b"{"))
    assert b"Traceback" not in b"".join(lines)


def test_it_ends_though_nobody_reads_its_log(mta: QuickMta) -> None:
    read_end, write_end = os.pipe()
    with up(POLICY, upstream=mta.address, handoff="plain", log_format="json", log=write_end) as sidecar:
        os.close(write_end)
        Storm(sidecar.host, sidecar.port, ALL).run(3_000)
        assert sidecar.stop() == 0
    os.close(read_end)


def test_a_crowd_beyond_the_limit_of_screening_costs_nothing_and_keeps_nobody_out_who_comes_later(
    mta: QuickMta,
) -> None:
    held = 100
    policy = POLICY.replace("wait: 200ms", "wait: 60s").replace(
        "connectionsPerClient: 0", f"connectionsPerClient: 0, screening: {held}"
    )
    with up(policy, upstream=mta.address, handoff="plain", log_format="json") as sidecar:
        clients = crowd(sidecar.host, sidecar.port, 2_000, "127.69.0.1")
        try:
            (worker,) = sidecar.workers()
            sidecar.wait_for_log('"overloaded"', 2_000 - held + 1, SETTLED)
            assert sidecar.descriptors()[0] < held + 30
            used = processor_seconds(worker)
            time.sleep(2)
            assert processor_seconds(worker) - used < 0.4
        finally:
            disperse(clients)
        Storm(sidecar.host, sidecar.port, GOOD[:1]).run(200)
