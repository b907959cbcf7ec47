"""Plays a case that was recorded with a real postscreen against a real server, and reads that server's log as the cases have it.

Contract: `play` needs an event loop, in which any number of cases may be played at a time. A task reads each connection all the time,
so that a line's time is that of its arrival. What the steps and expectations mean is told in the corpus itself (`about`). What is
compared, and how, is shared with the tests of the engine, which play the same cases in virtual time.
"""

import asyncio
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from engine.recorded_player import Case, Line, compare_lines, compare_read, enough, parse_line

SLACK = 0.15
"""Seconds by which replies may be later than the cases allow: those have 0.8 for `at once`, and the shortest wait is 1."""


@dataclass
class _Connection:
    """acted: when the client last did something, in the loop's time. lines: with `after`, the time since then. ended: likewise."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    client: tuple[str, int]
    acted: float
    lines: list[Line] = field(default_factory=list)
    taken: int = 0
    ended: float | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Task[None] | None = None

    async def read_all(self) -> None:
        loop = asyncio.get_running_loop()
        # A reset ends a connection like a FIN: which of them comes depends on what the server left unread.
        with suppress(ConnectionResetError):
            while raw := await self.reader.readline():
                after = loop.time() - self.acted
                self.lines.append(parse_line(raw.decode("latin-1").rstrip("\r\n")) | {"after": after})
                self.news.set()
        self.ended = loop.time() - self.acted
        self.news.set()


@dataclass
class Played:
    """problems: what differs from the recording. clients: name of the connection, and the address and port that the log knows."""

    problems: list[str] = field(default_factory=list)
    clients: list[tuple[str, tuple[str, int]]] = field(default_factory=list)


async def play(case: Case, host: str, port: int) -> Played:
    """Do what the case's clients did, and compare what they get."""
    played = Played()
    connections: dict[str, _Connection] = {}
    opened: list[_Connection] = []  # a name may be used again
    wanted = {expect["step"]: expect for expect in case["expect"]}
    try:
        for number, step in enumerate(case["steps"]):
            name = step.get("c", "a")
            if step["op"] == "connect":
                connections[name] = connection = await _connect(step, host, port)
                opened.append(connection)
                played.clients.append((name, connection.client))
            elif step["op"] == "read":
                got, stop = await _read(connections[name], step)
                since = connections[name].ended or 0.0
                where = f"{case['id']} step {number}"
                played.problems += compare_read(wanted[number], got, stop, since, where, SLACK)
            elif step["op"] == "wait":
                await asyncio.sleep(step["s"])
            else:
                await _act(connections[name], step)
        await _compare_rest(case, connections, played)
    finally:
        for connection in opened:
            await _close(connection)
    return played


async def _connect(step: dict[str, Any], host: str, port: int) -> _Connection:
    reader, writer = await asyncio.open_connection(host, port, local_addr=(step["from"], 0))
    client = writer.get_extra_info("sockname")[:2]
    if announced := step.get("as"):
        address, _, client_port = announced.rpartition(":")
        client = (address.strip("[]"), int(client_port))
    connection = _Connection(reader, writer, client, asyncio.get_running_loop().time())
    connection.reading = asyncio.create_task(connection.read_all())
    return connection


async def _act(connection: _Connection, step: dict[str, Any]) -> None:
    loop, writer = asyncio.get_running_loop(), connection.writer
    match step["op"]:
        case "send":
            data = b"".join(
                text.encode("latin-1") * times
                for text, times in step.get("parts", [[step.get("data", ""), 1]])
            )
            sizes, start = step.get("split", ()), 0
            for end in (*(sum(sizes[: count + 1]) for count in range(len(sizes))), len(data)):
                if start:
                    await asyncio.sleep(step["gap"])
                connection.acted = loop.time()
                with suppress(ConnectionError):  # closed by the server: the reads tell
                    writer.write(data[start:end])
                    await writer.drain()
                start = end
        case "half_close":
            connection.acted = loop.time()
            with suppress(OSError):
                writer.write_eof()
        case "close" | "reset":
            connection.acted = loop.time()
            if step["op"] == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await _close(connection)
        case other:
            raise AssertionError(f"a step of an unknown kind: {other}")


async def _read(connection: _Connection, step: dict[str, Any]) -> tuple[list[Line], str]:
    """The lines that the step reads, and how reading ended: ok, eof, timeout."""
    count = None
    with suppress(TimeoutError):
        async with asyncio.timeout(step["timeout"]):
            while True:
                connection.news.clear()
                count = enough(connection.lines[connection.taken :], step)
                if count is not None or connection.ended is not None:
                    break
                await connection.news.wait()
    lines = connection.lines[connection.taken :][:count]
    connection.taken += len(lines)
    if count is not None:
        return lines, "ok"
    return lines, "timeout" if connection.ended is None else "eof"


async def _compare_rest(case: Case, connections: dict[str, _Connection], played: Played) -> None:
    for name, rest in case["rest"].items():
        connection = connections[name]
        if rest["end"] == "eof" and not connection.writer.is_closing():
            got, stop = await _read(connection, {"eof": True, "timeout": 2.0})
            if stop != "eof":
                played.problems.append(f"{case['id']}: connection {name} is open at the end")
        else:
            got = connection.lines[connection.taken :]
        # When it came is not recorded.
        played.problems += compare_lines(rest["lines"], got, f"{case['id']} rest of {name}")


async def _close(connection: _Connection) -> None:
    connection.writer.close()
    with suppress(OSError):
        await connection.writer.wait_closed()
    if connection.reading is not None:
        await connection.reading


_STRESS = re.compile(r" postfix/postscreen\[\d+\]: (entering|leaving) STRESS mode with \d+ connections")


def stress_of(lines: list[str]) -> list[str]:
    """What the log says of stress, in the cases' words: it belongs to no client."""
    return [f"{found[1]} STRESS mode" for line in lines if (found := _STRESS.search(line))]
