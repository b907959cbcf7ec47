"""The pool with real worker processes: what is refused, who is silent, and what is left at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from controlclient.snapshots import add_rule, snapshot
from eventually import until
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.controlclient.stream import NotApplied
from postwarden_sidecar.engine.alike import all_whole
from postwarden_sidecar.engine.record import Record, Recorded
from postwarden_sidecar.ipc.messages import AcceptPaused, PassAnswer, ToSupervisor, UpstreamInForce
from postwarden_sidecar.ipc.page import CELLS, Page, active
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.rules.image import encode
from postwarden_sidecar.supervisor import workers as module
from postwarden_sidecar.supervisor.closing import close_when_empty
from postwarden_sidecar.supervisor.memory_file import memory_file
from postwarden_sidecar.supervisor.worker_process import WorkerProcess
from postwarden_sidecar.supervisor.workers import Workers

RULES = encode(decode(snapshot(), {}))


def deny_all() -> bytes:
    message = snapshot()
    add_rule(message, [("127.0.0.0/8", 2, 7)])
    return encode(decode(message, {}))


DENY_ALL = deny_all()


class Pool:
    def __init__(self, count: int) -> None:
        self.page = Page.create()
        self.listeners = listen("127.0.0.1", 0, count)
        self.records: list[Record] = []
        self.workers = Workers(
            self.listeners,
            self.page,
            on_records=self._recorded,
            on_pass=lambda worker, message: None,
            on_fault=lambda fault: None,
        )

    def _recorded(self, records: Sequence[Recorded]) -> None:
        self.records += all_whole(records)

    async def greeting(self) -> bytes:
        reader, writer = await asyncio.open_connection(*self.listeners[0].getsockname())
        async with asyncio.timeout(20):
            said = await reader.readline()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return said


@contextlib.asynccontextmanager
async def pool(count: int = 1) -> AsyncIterator[Pool]:
    made = Pool(count)
    made.workers.start()
    made.workers.set_upstream(UpstreamInForce("", "Plain", False, "none", "", None))
    try:
        yield made
    finally:
        await made.workers.stop()
        close_when_empty(made.listeners)
        made.page.close()
        os.close(made.page.descriptor)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_image_that_workers_refuse_is_not_applied_and_the_previous_rules_stay() -> None:
    async with pool(2) as it:
        await it.workers.set_rules(None, defer=True)
        before = open_descriptors()
        with pytest.raises(
            NotApplied, match=r"worker [01] can't use the rules: an image of rules has at least"
        ):
            await it.workers.set_rules(memory_file([b"nonsense"]))
        assert open_descriptors() == before
        await it.workers.wait_accepting()
        assert (await it.greeting()).startswith(b"421 4.3.2 ")
        await it.workers.set_rules(memory_file([RULES]))
        assert open_descriptors() == before + 1


async def test_no_worker_accepts_before_it_knows_its_rules() -> None:
    async with pool() as it:
        waiting = asyncio.create_task(it.greeting())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.5)
        assert not it.workers.accepting
        await it.workers.set_rules(None, defer=True)
        assert (await waiting).startswith(b"421 4.3.2 ")


async def test_a_worker_that_is_silent_is_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SILENCE", 2.0)
    monkeypatch.setattr(module, "WATCH_INTERVAL", 0.05)
    async with pool(2) as it:
        await it.workers.set_rules(None, defer=True)
        await it.workers.wait_accepting()
        first, second = it.workers.pids
        os.kill(second, signal.SIGSTOP)
        await until(lambda: len(it.workers.pids) == 2 and it.workers.pids[1] != second)
        await it.workers.wait_accepting()
        assert it.workers.pids[0] == first
        assert f"(pid {second}) is silent for 2 s" in caplog.text


async def test_of_clients_that_wait_it_warns_once_a_second_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """All that workers told while the supervisor was held up comes at once, too."""
    async with pool(2) as it:
        for _ in range(50):
            for worker in it.workers._running.values():
                it.workers.received(worker, AcceptPaused("accept: Too many open files in system"))
        told = [record.message for record in caplog.records if "clients wait" in record.message]
        assert told == ["clients wait to be accepted by worker 0: accept: Too many open files in system"]


async def test_the_gauges_of_a_dead_worker_are_zeroed_and_its_counters_kept() -> None:
    async with pool() as it:
        await it.workers.set_rules(None, defer=True)
        await it.greeting()
        await until(lambda: it.page.total("connections/deferred") == 1)
        (pid,) = it.workers.pids
        os.kill(pid, signal.SIGSTOP)
        cells = it.page.slot(0)
        cells[CELLS[active("relay")]] = 7  # as if it had died in the midst of work
        cells.release()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: it.workers.pids not in ((pid,), ()))
        assert it.page.total(active("relay")) == 0
        assert it.page.total("connections/deferred") == 1


async def test_records_of_a_worker_arrive_even_if_it_ends_at_once() -> None:
    async with pool() as it:
        await it.workers.set_rules(None, defer=True)
        for _ in range(20):
            await it.greeting()
        await it.workers.stop()
    assert len(it.records) == 20


async def test_a_worker_that_dies_again_and_again_is_restarted_ever_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pool() as it:
        await it.workers.set_rules(None, defer=True)
        loop = asyncio.get_running_loop()
        gaps = []
        for _ in range(4):
            (pid,) = it.workers.pids
            os.kill(pid, signal.SIGKILL)
            await until(lambda: it.workers.pids == ())
            began = loop.time()
            await until(lambda: it.workers.pids != ())
            gaps.append(loop.time() - began)
    assert [gap >= 0.9 * least for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True)] == [True] * 4
    deaths = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(deaths) == 4


async def test_workers_end_with_stop_and_leave_no_descriptor() -> None:
    before = open_descriptors()
    async with pool(2) as it:
        await it.workers.set_rules(memory_file([RULES]))
        pids = it.workers.pids
    assert open_descriptors() == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_an_answer_for_a_worker_that_has_ended_meanwhile_is_nobodys() -> None:
    class Events:
        over = asyncio.Event()

        def received(self, worker: WorkerProcess, message: ToSupervisor) -> None: ...

        def recorded(self, records: Sequence[Recorded]) -> None: ...

        def ended(self, worker: WorkerProcess, status: int) -> None:
            self.over.set()

    with contextlib.ExitStack() as closing:
        page = Page.create()
        closing.callback(os.close, page.descriptor)
        closing.callback(page.close)
        (listener,) = listen("127.0.0.1", 0, 1)
        closing.callback(listener.close)
        worker = WorkerProcess(0, listener, page, Events())
        worker.kill()
        async with asyncio.timeout(20):
            await Events.over.wait()
        worker.send(PassAnswer(1, {}))


def test_whoever_is_queued_gets_421_and_no_reset_when_the_port_closes() -> None:
    listeners = listen("127.0.0.1", 0, 1)
    with socket.create_connection(listeners[0].getsockname()) as early, early.makefile("rb") as heard:
        early.sendall(b"EHLO too.early\r\n")
        close_when_empty(listeners)
        assert heard.read() == b"421 4.3.2 Service not available, closing transmission channel\r\n"
        assert early.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # EPIPE after a reset


async def test_rules_that_a_stuck_worker_does_not_apply_are_taken_back_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pool(2) as it:
        await it.workers.set_rules(memory_file([DENY_ALL]))
        await it.workers.wait_accepting()
        stuck = it.workers.pids[0]
        os.kill(stuck, signal.SIGSTOP)
        monkeypatch.setattr(module, "APPLY_TIMEOUT", 0.3)
        with pytest.raises(NotApplied, match="not every worker has applied the rules within"):
            await it.workers.set_rules(None, defer=True)
        os.kill(stuck, signal.SIGCONT)
        await asyncio.sleep(0.2)
        for _ in range(10):  # either worker
            assert (await it.greeting()).startswith(b"521 ")


def test_a_memory_file_can_be_mapped_and_never_changed() -> None:
    descriptor = memory_file([b"rules"])
    with mmap.mmap(descriptor, 5, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == b"rules"
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, 5, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    with (
        pytest.raises(OSError),
        Path(f"/proc/self/fd/{descriptor}").open("r+b", buffering=0) as writable,  # opening is allowed
    ):
        writable.write(b"x")
    os.close(descriptor)
