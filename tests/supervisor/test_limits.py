"""Limits and stress with real workers: they are the pod's, whichever worker a client reaches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from eventually import until
from net.bench import make_rules
from postwarden_sidecar.ipc.page import SCREENING, UPSTREAM
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import AccessAction, Action, Limits
from supervisor.pools import Pool, pool

TOO_MANY = b"421 4.7.0 Error: too many connections\r\n"
SCREENING_BUSY = b"421 4.3.2 All screening ports are busy\r\n"
SERVER_BUSY = b"421 4.3.2 All server ports are busy\r\n"
TEASER = b"220-mx.example ESMTP\r\n"
WAITING = make_rules(wait=20.0)  # seconds; no test waits for its end


def table(network: str, action: AccessAction = AccessAction.PERMIT) -> AddressTable:
    return AddressTable.from_networks([(network, action, 1)])


@pytest.fixture(params=[1, 4])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def come(cls, it: Pool, source: str, said: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection(*it.address, local_addr=(source, 0))
        writer.write(said)
        return cls(reader, writer)

    async def line(self) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readline()

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def clients(it: Pool, count: int, first: int = 1) -> AsyncIterator[list[Client]]:
    """Each from an address of its own, and in screening."""
    found = []
    try:
        for number in range(first, first + count):
            found.append(await Client.come(it, f"127.1.0.{number}"))
            assert await found[-1].line() == TEASER
        yield found
    finally:
        for client in found:
            await client.leave()


async def test_a_clients_third_connection_is_turned_away_until_one_leaves(workers: int) -> None:
    async with pool(workers, replace(WAITING, limits=Limits(connections_per_client=2))) as it:
        for source in ("127.0.0.7", "127.0.0.8", "127.0.0.9"):
            first, second = [await Client.come(it, source) for _ in range(2)]
            assert [await first.line(), await second.line()] == [TEASER, TEASER]
            third = await Client.come(it, source)
            assert [await third.line(), await third.line()] == [TOO_MANY, b""]
            await third.leave()
            await first.leave()
            await until(lambda: it.page.total(SCREENING) == 1)
            fourth = await Client.come(it, source)
            assert await fourth.line() == TEASER
            await fourth.leave()
            await second.leave()
            await until(lambda: it.page.total(SCREENING) == 0)


async def test_a_client_is_counted_behind_whichever_proxy_it_comes(workers: int) -> None:
    rules = replace(
        WAITING,
        limits=Limits(connections_per_client=2),
        proxy_trusted=table("127.0.0.0/24"),
        proxy_timeout=10.0,
    )
    header = b"PROXY TCP4 198.51.100.7 192.0.2.25 1234 25\r\n"
    async with pool(workers, rules) as it:
        there = [await Client.come(it, f"127.0.0.{number}", header) for number in (2, 3)]
        assert [await client.line() for client in there] == [TEASER, TEASER]
        for number in range(4, 10):
            late = await Client.come(it, f"127.0.0.{number}", header)
            assert await late.line() == TOO_MANY
            await late.leave()
        for client in there:
            await client.leave()


async def test_the_tenth_of_ten_is_turned_away_and_there_is_room_when_one_left(workers: int) -> None:
    async with pool(workers, replace(WAITING, limits=Limits(screening=10))) as it:
        async with clients(it, 9):
            assert it.page.total(SCREENING) == 9
            for number in range(100, 110):
                assert await it.say(source=f"127.1.0.{number}") == SCREENING_BUSY
        await until(lambda: it.page.total(SCREENING) == 0)
        async with clients(it, 1, first=100):
            pass


async def test_under_stress_the_wait_is_short_and_it_is_said_once(workers: int) -> None:
    rules = replace(WAITING, limits=Limits(screening=10), stress_wait=0.2)
    async with pool(workers, rules) as it:
        async with clients(it, 8):
            assert it.stress == []
            ninth = await Client.come(it, "127.1.0.100")
            assert await ninth.line() == TEASER
            assert await ninth.line() != b"", "in seconds, not in 20"
            await until(lambda: it.stress)
            assert it.stress == [(True, 9)]
            await ninth.leave()
        await until(lambda: len(it.stress) > 1)
        assert it.stress[1][0] is False
        assert it.stress[1][1] <= 7
        async with clients(it, 8):
            assert len(it.stress) == 2


async def test_clients_whom_the_mta_has_not_answered_are_limited(workers: int) -> None:
    """A permitted client is so, too. The MTA takes connections and is silent until it is told to greet."""
    greet = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet.wait()
        writer.write(b"220 mta.example ESMTP\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    rules = replace(
        make_rules(banner="", permitted=table("127.0.0.7/32"), action=Action.ENFORCE),
        limits=Limits(upstream=3, connections_per_client=2),
    )
    async with server, pool(workers, rules, target) as it:
        there = [await Client.come(it, f"127.1.0.{number}") for number in range(3)]
        await until(lambda: it.page.total(UPSTREAM) == 3)
        assert it.page.total(SCREENING) == 0
        for source in ("127.1.0.99", "127.0.0.7"):
            assert await it.say(source=source) == SERVER_BUSY
        greet.set()
        for client in there:
            assert (await client.line()).startswith(b"220 ")
        await until(lambda: it.page.total(UPSTREAM) == 0)
        for _ in range(4):  # sessions that are with the MTA count for nothing
            late = await Client.come(it, "127.0.0.7")
            assert (await late.line()).startswith(b"220 ")
            there.append(late)
        for client in there:
            await client.leave()
