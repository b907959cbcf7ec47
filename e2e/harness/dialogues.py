"""Plays SMTP dialogues with a server, each from a loopback address of its own, and tells what was answered.

Contract: each write is sent once every line of those before has its reply, as each line gets exactly one; so what is read together does
not hang on the machine's speed. A dialogue ends with its last write, or when the server ends it.
"""

import asyncio
import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

SIDE_BY_SIDE = 100
"""Dialogues at a time; each of the two servers takes several times as many."""

PATIENCE = 15.0
"""Seconds for a reply: waits for the greeting are 1 s, the rest is the machine's load."""

_REPLY = re.compile(rb"(?P<code>[0-9]{3})(?P<mark>[- ])(?P<enhanced>[245]\.[0-9]+\.[0-9]+(?= ))?")
_CLIENTS = itertools.count()


class Answer(NamedTuple):
    """A reply's code, its enhanced code ("" if it has none), and its number of lines where it is no 250."""

    code: str
    enhanced: str
    lines: int


class Heard(NamedTuple):
    """What a client heard, in order. closed: the server ended the connection; late: a reply did not come."""

    answers: tuple[Answer, ...]
    closed: bool
    late: bool


class Server(NamedTuple):
    """Where to connect. talk_early: the first write is sent as soon as something of the greeting is there."""

    host: str
    port: int
    talk_early: bool = False


def client_address(network: int) -> str:
    """The next address of 127.NETWORK.0.0/16."""
    number = next(_CLIENTS)
    return f"127.{network}.{number // 250 % 256}.{number % 250 + 1}"


async def converse(server: Server, source: str, writes: Sequence[bytes]) -> Heard:
    """Play one dialogue."""
    reader, writer = await asyncio.open_connection(server.host, server.port, local_addr=(source, 0))
    answers: list[Answer] = []
    closed = late = False
    begun = ""  # the first line of a reply that is not complete
    lines = 0
    sent = b""
    wanted = 1  # the greeting

    async def read() -> bool:
        """One line; False at the end."""
        nonlocal begun, lines
        raw = await reader.readline()
        if not raw:
            return False
        found = _REPLY.match(raw)
        assert found, raw
        lines += 1
        code = found["code"].decode()
        if found["mark"] == b"-":
            begun = code
            return True
        enhanced = (found["enhanced"] or b"").decode()
        answers.append(Answer(code, enhanced, 0 if code == "250" else lines))
        begun, lines = "", 0
        return True

    try:
        async with asyncio.timeout(PATIENCE):
            if server.talk_early:
                closed = not await read()
                wanted -= len(answers) == 0  # who speaks early gets no second line of the greeting
            while len(answers) < wanted and not closed:
                closed = not await read()
            for write in writes:
                if closed:
                    break
                sent += write
                with suppress(ConnectionError):
                    writer.write(write)
                    await writer.drain()
                lines = 0 if server.talk_early and not answers else lines
                while len(answers) < wanted + sent.count(b"\n") and not closed:
                    closed = not await read()
    except TimeoutError:
        late = True
    except ConnectionError:
        closed = True
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Heard(tuple(answers), closed, late)


async def converse_all(
    servers: Sequence[Server], network: int, dialogues: Sequence[Sequence[bytes]]
) -> list[tuple[Heard, ...]]:
    """Play each dialogue with each server, from the same address."""
    slots = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(writes: Sequence[bytes]) -> tuple[Heard, ...]:
        async with slots:
            source = client_address(network)
            heard = [asyncio.create_task(converse(server, source, writes)) for server in servers]
            return tuple([await task for task in heard])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(writes)) for writes in dialogues]
    return [task.result() for task in tasks]
