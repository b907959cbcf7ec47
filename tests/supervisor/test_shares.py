"""Several real workers: who has which client, also through a proxy, and what becomes of the clients of a worker that dies."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
from collections import Counter
from dataclasses import replace

import pytest
from eventually import until
from net.bench import make_rules
from postwarden_sidecar.engine.record import EventKind
from postwarden_sidecar.ipc.page import STEERING_FAILED
from postwarden_sidecar.net.steering import Steering
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action
from postwarden_sidecar.supervisor import workers as module
from supervisor.pools import pool
from supervisor.sidecars import sidecar, visit

COUNT = 4
STEERING = Steering(COUNT)
DROP = b"521 5.3.2 Service currently unavailable\r\n"
PROXY = AddressTable.from_networks([("127.0.0.1/32", AccessAction.PERMIT, 1)])
CLIENTS = [f"198.51.{number % 5}.{number}" for number in range(40)] + [
    f"2001:db8:{number}::{number}" for number in range(40)
]


LISTED = AddressTable.from_networks(
    [(network, AccessAction.REJECT, 1) for network in ("198.51.0.0/16", "2001:db8::/32", "127.0.0.0/8")]
)
RULES = replace(
    make_rules(wait=3.0, listed=LISTED, reject=Action.DROP, proxy_trusted=PROXY), proxy_timeout=10.0
)


def header(client: str) -> bytes:
    family, server = ("TCP6", "2001:db8::25") if ":" in client else ("TCP4", "192.0.2.25")
    return f"PROXY {family} {client} {server} 4321 25\r\n".encode()


def source_of(worker: int) -> str:
    """A loopback client that this worker has."""
    return next(client for number in range(2, 250) if STEERING.owner(client := f"127.0.0.{number}") == worker)


async def test_a_steering_that_the_kernel_refuses_is_told_by_a_metric_and_to_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pool(2, RULES) as it:

        def steered(prefix: int) -> int:
            it.workers.set_prefixes(prefix, 64)
            return it.page.total(STEERING_FAILED)

        assert steered(30) == 0
        with monkeypatch.context() as broken:
            broken.setattr(Steering, "attach", refuse)
            assert steered(28) == 1
            assert steered(26) == 1
        assert steered(24) == 0
        problem = "the kernel refuses a new steering, so the old one stays: no more programs"
        assert it.steering_problems == ["", problem, problem, ""]


async def test_where_the_kernel_refuses_to_steer_one_worker_serves_and_a_metric_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Steering, "attach", refuse)
    async with sidecar(workers=2, metrics=("127.0.0.1", 0)) as it:
        page = it.supervisor._page
        assert page is not None
        assert page.total(STEERING_FAILED) == 1
        async with visit(it) as client:
            assert (await client.reply()).startswith("4")


def refuse(steering: Steering, listener: object) -> None:
    raise PermissionError("no more programs")


async def test_a_client_behind_a_proxy_is_its_owners_wherever_the_connection_lands() -> None:
    async with pool(COUNT, RULES) as it:
        for _ in range(2):
            assert set(await asyncio.gather(*(it.say(header(client)) for client in CLIENTS))) == {DROP}
        shares = Counter(STEERING.owner(client) for client in CLIENTS)
        assert it.dropped() == [2 * shares[index] for index in range(COUNT)]
        await until(lambda: len(it.records) == 2 * len(CLIENTS))
        assert {record.client_address for record in it.records} == {
            str(ipaddress.ip_address(client)) for client in CLIENTS
        }
        assert all(
            (record.proxied, record.client_port, record.peer_address) == (True, 4321, "127.0.0.1")
            for record in it.records
        )


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_nothing_that_is_behind_the_header_is_lost(pieces: int) -> None:
    async with pool(COUNT, RULES) as it:
        clients = [f"203.0.113.{number}" for number in range(8)]
        assert len({STEERING.owner(client) for client in clients}) > 1
        for client in clients:
            data = header(client) + b"EHLO too.early\r\n"
            size = -(-len(data) // pieces)
            await it.say(*(data[at : at + size] for at in range(0, len(data), size)), b"QUIT\r\n")
        await until(lambda: len(it.records) == len(clients))
        for record in it.records:
            (said,) = (event.text for event in record.events if event.kind is EventKind.PREGREET)
            assert said
            assert "EHLO too.early\r\nQUIT\r\n".startswith(said)
            assert record.helo == "too.early", "what was seen early is read afterwards"


async def test_a_worker_that_died_gets_its_clients_again() -> None:
    async with pool(COUNT, RULES) as it:
        before = it.workers.pids
        client = CLIENTS[0]
        owner = STEERING.owner(client)
        os.kill(before[owner], signal.SIGKILL)
        await until(lambda: len(it.workers.pids) == COUNT and it.workers.pids != before)
        await it.workers.wait_accepting()
        counts = it.dropped()
        for _ in range(5):
            assert await it.say(header(client)) == DROP
        counts[owner] += 5
        assert it.dropped() == counts


async def test_while_a_worker_is_dead_clients_of_its_proxy_are_kept_where_they_landed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_RESTART", 30.0)
    monkeypatch.setattr(module, "LARGEST_RESTART", 30.0)
    async with pool(COUNT, RULES) as it:
        landing = STEERING.owner("127.0.0.1")
        client = next(client for client in CLIENTS if STEERING.owner(client) != landing)
        os.kill(it.workers.pids[STEERING.owner(client)], signal.SIGKILL)
        await until(lambda: len(it.workers.pids) == COUNT - 1)
        assert await it.say(header(client)) == DROP
        assert it.dropped()[landing] == 1


async def test_a_killed_worker_costs_no_waiting_client() -> None:
    async with pool(COUNT, RULES) as it:
        os.kill(it.workers.pids[2], signal.SIGSTOP)
        waiting = [asyncio.create_task(it.say(source=source_of(2))) for _ in range(10)]
        await asyncio.sleep(0.1)
        os.kill(it.workers.pids[2], signal.SIGKILL)
        assert set(await asyncio.gather(*waiting)) == {DROP}
        assert it.dropped()[2] == 10


async def test_a_worker_that_dies_again_and_again_has_its_clients_served_by_another_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_RESTART", 0.05)
    async with pool(COUNT, RULES) as it:
        for death in range(module.MAX_DEATHS):
            await until(lambda: len(it.workers.pids) == COUNT)
            if death == module.MAX_DEATHS - 1:
                monkeypatch.setattr(module, "FIRST_RESTART", 30.0)
                monkeypatch.setattr(module, "LARGEST_RESTART", 1.5)
                os.kill(it.workers.pids[2], signal.SIGSTOP)
                waiting = [asyncio.create_task(it.say(source=source_of(2))) for _ in range(5)]
                await asyncio.sleep(0.1)
            pids = it.workers.pids
            os.kill(pids[2], signal.SIGKILL)
            await until(lambda pids=pids: it.workers.pids != pids)  # type: ignore[misc]
        assert set(await asyncio.gather(*waiting)) == {DROP}, "another accepts from its socket"
        assert set(await asyncio.gather(*(it.say(source=source_of(2)) for _ in range(5)))) == {DROP}
        assert "worker 2 dies again and again" in caplog.text
        assert it.workers.accepting, "the sidecar as a whole is well"
        assert it.dropped()[2] == 0
        monkeypatch.setattr(module, "DEATH_WINDOW", 0.3)
        monkeypatch.setattr(module, "WATCH_INTERVAL", 0.05)
        await until(lambda: "worker 2 is back: " in caplog.text)
        assert set(await asyncio.gather(*(it.say(source=source_of(2)) for _ in range(5)))) == {DROP}
        assert it.dropped()[2] == 5


async def test_the_last_worker_is_never_put_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DEATHS", 1)
    async with pool(COUNT, RULES) as it:
        for index in range(COUNT):
            pids = it.workers.pids
            os.kill(pids[index], signal.SIGKILL)
            await until(lambda pids=pids: len(it.workers.pids) == COUNT and it.workers.pids != pids)  # type: ignore[misc]
        await it.workers.wait_accepting()
        for index in range(COUNT):
            assert await it.say(source=source_of(index)) == DROP
