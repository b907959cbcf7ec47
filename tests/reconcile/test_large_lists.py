"""Large lists are compiled beside the loop, by a process that may die, and hold up no other policy."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eventually import until
from postwarden_operator.compiler import BadList, BlobContent, CompiledList, ListText, compile_list
from postwarden_operator.compiler.list_table import ListSource, digest_of
from postwarden_operator.controlplane.registry import Registry
from postwarden_operator.controlplane.subscription import State, SyncState
from postwarden_operator.controlplane.wanted import Managed, Undecided
from postwarden_operator.policy.vocabulary import ListFormat
from postwarden_operator.reconcile import compilation, list_process
from postwarden_operator.reconcile.compilation import Compilation, Compiler
from postwarden_operator.reconcile.list_process import ListProcess, ProcessLost
from postwarden_operator.reconcile.list_tables import SMALL, ListTables
from postwarden_operator.reconcile.loop import Reconciler
from postwarden_operator.reconcile.plan import Plan, plan
from postwarden_operator.reconcile.status import status_of
from postwarden_operator.reconcile.world import World
from reconcile.test_plan import document, listed, pod
from reconcile.test_status import NOW


def networks(count: int = 10_000, *, more: str = "") -> bytes:
    """More text than is compiled in the loop."""
    text = "".join(f"10.{number >> 8}.{number & 255}.0/24\n" for number in range(count)) + more
    assert len(text) > SMALL
    return text.encode()


def world(*, large: bytes, mode: str = "Enforce") -> World:
    policies = (
        document("large", selector={"matchLabels": {"tier": "a"}}, access=listed("many"), mode=mode),
        document("small", selector={"matchLabels": {"tier": "b"}}, mode=mode),
    )
    return World(policies, (pod(0, tier="a"), pod(1, tier="b")), {("mail", "many"): {"networks": large}})


class Gated(ListProcess):
    """Compiles in this process, when the gate is open; loses a list as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.begun = 0
        self.losses = 0

    async def compile(self, text: ListText, known: dict[str, BlobContent]) -> CompiledList:
        self.begun += 1
        await self.gate.wait()
        if self.losses:
            self.losses -= 1
            raise ProcessLost("it is gone")
        return compile_list(text)


class Loop:
    """A compiler whose lists are compiled behind a gate."""

    def __init__(self) -> None:
        self.process = Gated()
        self.tables = ListTables(self.process)
        self.compiler = Compiler(strict=False)
        self.changes = 0
        self.compiler.compile_elsewhere(self.tables, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def compile(self, now: World, which: int = 0) -> Compilation:
        policy: Any = now.policies[which]
        return self.compiler.compile(policy["metadata"]["uid"], policy, now)

    async def settled(self) -> None:
        before = self.changes
        await until(lambda: self.changes > before)


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    made = Loop()
    yield made
    made.compiler.close()


def version(result: Compilation) -> str:
    assert result.managed is not None
    return result.managed.snapshot.version


async def test_a_large_list_is_pending_until_it_is_compiled_and_is_what_it_is_when_compiled_at_once(
    loop: Loop,
) -> None:
    now = world(large=networks())
    pending = loop.compile(now)
    assert (pending.compiling, pending.managed, pending.resolved.reason) == (True, None, "Pending")
    assert loop.compile(now) is pending
    loop.process.gate.set()
    await loop.settled()
    done = loop.compile(now)
    assert not done.compiling
    assert version(done) == version(Compiler(strict=False).compile("uid-large", now.policies[0], now))
    assert loop.process.begun == 1


async def test_what_was_wanted_stays_until_the_new_list_is_compiled(loop: Loop) -> None:
    loop.process.gate.set()
    loop.compile(world(large=networks()))
    await loop.settled()
    first = loop.compile(world(large=networks()))
    loop.process.gate.clear()
    changed = world(large=networks(more="192.0.2.1\n"))
    assert loop.compile(changed).compiling
    assert version(loop.compile(changed)) == version(first)
    loop.process.gate.set()
    await loop.settled()
    assert version(loop.compile(changed)) != version(first)


async def test_of_several_changes_the_latest_counts_and_one_taken_back_costs_nothing(loop: Loop) -> None:
    loop.process.gate.set()
    first = world(large=networks())
    loop.compile(first)
    await loop.settled()
    loop.process.gate.clear()
    for number in range(5):
        loop.compile(world(large=networks(more=f"192.0.2.{number}\n")))
        await asyncio.sleep(0)
    assert not loop.compile(first).compiling
    last = world(large=networks(more="198.51.100.1\n"))
    loop.compile(last)
    loop.process.gate.set()
    await loop.settled()
    assert loop.changes == 2
    assert version(loop.compile(last)) == version(
        Compiler(strict=False).compile("uid-large", last.policies[0], last)
    )


async def test_a_policy_that_changes_beside_its_list_is_compiled_at_once(loop: Loop) -> None:
    loop.process.gate.set()
    content = networks()
    loop.compile(world(large=content))
    await loop.settled()
    observed = loop.compile(world(large=content, mode="Observe"))
    assert not observed.compiling
    assert loop.process.begun == 1


async def test_a_small_policy_does_not_wait_for_a_large_one(loop: Loop) -> None:
    now = world(large=networks())
    assert loop.compile(now).compiling
    assert loop.compile(now, 1).managed is not None


async def test_a_bad_large_list_is_told_as_a_small_one_is(loop: Loop) -> None:
    loop.process.gate.set()
    now = world(large=networks(more="10.0.0.1/8\n"))
    loop.compile(now)
    await loop.settled()
    result = loop.compile(now)
    assert result.resolved.reason == "BadList"
    assert "line 10001: 10.0.0.1/8 has host bits set" in result.resolved.message


async def test_a_process_that_does_not_survive_a_list_is_a_status_and_is_tried_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compilation, "RETRY_DELAY", 0.3)
    loop.process.gate.set()
    loop.process.losses = 1
    now = world(large=networks())
    loop.compile(now)
    await loop.settled()
    lost = loop.compile(now)
    assert (lost.resolved.reason, lost.managed) == ("BadList", None)
    assert lost.resolved.message == "spec.access.rules: its lists can't be compiled now: it is gone"
    assert "do not compile: it is gone" in caplog.text
    await loop.settled()
    assert loop.compile(now).compiling
    await loop.settled()
    assert loop.compile(now).managed is not None


async def test_policies_that_are_gone_leave_nothing_behind(loop: Loop) -> None:
    loop.process.gate.set()
    loop.compile(world(large=networks()))
    await loop.settled()
    assert not loop.tables.empty
    loop.compiler.keep_only([])
    assert loop.tables.empty


async def test_status_is_pending_while_the_newest_list_is_compiled(loop: Loop) -> None:
    loop.process.gate.set()
    loop.compile(world(large=networks()))
    await loop.settled()
    loop.process.gate.clear()
    outcome = plan(world(large=networks(more="192.0.2.1\n")), loop.compiler).outcomes[0]
    status: Any = status_of(outcome, lambda _: SyncState(State.SYNCED), {}, NOW)
    assert status["sidecars"]["summary"] == "0/1"
    told = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert told["Programmed"] == ("False", "Pending")
    assert told["ResolvedRefs"] == ("Unknown", "Pending")
    assert "revision" not in status


# --- with the real process


@pytest.fixture
async def process() -> AsyncIterator[ListProcess]:
    made = ListProcess()
    yield made
    made.close()


def text_of(content: bytes) -> ListText:
    return ListText(ListFormat.PLAIN, 2, (ListSource("list", digest_of(content), content),))


async def test_the_process_compiles_sends_what_is_new_and_keeps_to_its_errors(process: ListProcess) -> None:
    text = text_of(networks(20_000))
    made = await process.compile(text, {})
    assert made == compile_list(text)
    again = await process.compile(text, made.blobs)
    assert all(again.blobs[digest] is made.blobs[digest] for digest in made.blobs)
    with pytest.raises(BadList, match="line 2: "):
        await process.compile(text_of(b"192.0.2.1\nx\n"), {})


async def test_a_process_that_is_killed_is_started_again_and_the_list_compiled_all_the_same(
    process: ListProcess, caplog: pytest.LogCaptureFixture
) -> None:
    text = text_of(networks(20_000))
    await process.compile(text_of(b"192.0.2.1\n"), {})
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)  # so that the list is under way when it dies
    compiling = asyncio.create_task(process.compile(text, {}))
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    assert await compiling == compile_list(text)
    assert process.pid not in (None, first)
    assert "ended" in caplog.text


async def test_a_process_that_can_not_be_started_is_said_in_one_sentence(
    process: ListProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(list_process, "ProcessPoolExecutor", no_process)
    with pytest.raises(ProcessLost, match=r"can't be started: \[Errno 12\] Cannot allocate memory"):
        await process.compile(text_of(b"192.0.2.1\n"), {})


async def test_lists_are_compiled_though_one_before_them_was_given_up(process: ListProcess) -> None:
    await process.compile(text_of(b"192.0.2.1\n"), {})
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    first = asyncio.create_task(process.compile(text_of(b"192.0.2.2\n"), {}))
    others = [asyncio.create_task(process.compile(text_of(b"192.0.2.%d\n" % n), {})) for n in range(3, 9)]
    await asyncio.sleep(0.05)
    first.cancel()
    os.kill(process.pid, signal.SIGCONT)
    assert len(await asyncio.gather(*others)) == 6


async def test_a_process_that_hangs_is_ended_and_another_does_its_work(
    process: ListProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.compile(text_of(b"192.0.2.1\n"), {})
    hangs = process.pid
    assert hangs is not None
    os.kill(hangs, signal.SIGSTOP)
    monkeypatch.setattr(list_process, "LONGEST", 0.2)

    def close() -> None:
        monkeypatch.setattr(list_process, "LONGEST", 20.0)
        ListProcess.close(process)

    monkeypatch.setattr(process, "close", close)
    assert (await process.compile(text_of(b"192.0.2.2\n"), {})).table.ipv4
    assert process.pid != hangs


async def test_the_reconciler_serves_a_small_policy_while_the_process_starts_and_ends_it() -> None:
    class Silent:
        def state_changed(self, pod_uid: str) -> None: ...

    plans: list[Plan] = []
    now = world(large=networks())

    async def read() -> World:
        return now

    reconciler = Reconciler(read, Registry(Silent()), plans.append)
    running = asyncio.create_task(reconciler.run())
    try:
        reconciler.mark_dirty()
        await until(lambda: plans)
        assert plans[0].wanted["pod-0"] == Undecided("mail/large: its lists are being compiled")
        assert isinstance(plans[0].wanted["pod-1"], Managed)
        await until(lambda: isinstance(plans[-1].wanted["pod-0"], Managed))
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
