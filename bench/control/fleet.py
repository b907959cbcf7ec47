"""A thousand sidecars as the operator sees them: real streams over TLS with real tokens, and nothing behind them.

Contract: `Fleet(address, ca_pem, tokens)` is a process of its own with a connection for every sidecar, as pods
have; it acknowledges every snapshot at once and keeps the moment (CLOCK_MONOTONIC, which all processes of a
machine share) of every Ack. One process, for a thousand would take the memory of a thousand Pythons; what it
costs is printed beside the operator's figures, for the two share the cores.
"""

import asyncio
import multiprocessing
import os
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),  # as a sidecar has them
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]

AT_ONCE = 50
"""Handshakes under way at a time: a thousand at once would only time out on two cores."""

ANSWER_TIMEOUT = 120.0
"""Seconds for the fleet's process to answer: reconnecting a thousand streams takes some ten."""

Acks = dict[tuple[str, int], list[float]]
"""Moments by policy name and generation."""


class FleetFailed(Exception):
    """The fleet's process does not answer."""


class Fleet:
    """The moments are of time.monotonic()."""

    def __init__(self, address: str, ca_pem: bytes, tokens: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, remote = context.Pipe()
        self._process = context.Process(target=_main, args=(remote, address, ca_pem, tokens), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def acks(self, policy: str, generation: int) -> list[float]:
        """When each Ack so far of that generation was written."""
        return list(self._ask("acks", policy, generation))

    def restart(self, first: int, count: int) -> None:
        """Those sidecars go and come again, as in a rollout: with nothing in force. Returns when they are let in."""
        self._ask("restart", first, count)

    def connected(self) -> int:
        """Streams that are let in."""
        return int(self._ask("connected"))

    def troubles(self) -> list[str]:
        """Why streams were lost, each reason once."""
        return list(self._ask("troubles"))

    def _ask(self, *question: Any) -> Any:
        self._connection.send(question)
        if not self._connection.poll(ANSWER_TIMEOUT):
            raise FleetFailed(f"no answer from the simulated sidecars to {question[0]}")
        return self._connection.recv()


def _main(connection: Connection, address: str, ca_pem: bytes, tokens: Sequence[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a channel takes three
    asyncio.run(_Sidecars(address, ca_pem, tokens).serve(connection))


class _Sidecars:
    def __init__(self, address: str, ca_pem: bytes, tokens: Sequence[str]) -> None:
        self._address = address
        self._credentials = grpc.ssl_channel_credentials(ca_pem)
        self._tokens = tokens
        self._acks: Acks = defaultdict(list)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._admitted = [asyncio.Event() for _ in tokens]
        self._tasks: list[asyncio.Task[None]] = []
        self._troubles: dict[str, None] = {}

    async def serve(self, connection: Connection) -> None:
        """Until the other side is gone."""
        self._tasks = [asyncio.create_task(self._keep(index)) for index in range(len(self._tokens))]
        questions: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(
            connection.fileno(), lambda: questions.put_nowait(_received(connection))
        )
        while True:
            match await questions.get():
                case ("acks", policy, generation):
                    connection.send(self._acks.get((policy, generation), []))
                case ("restart", first, count):
                    await self._restart(range(first, first + count))
                    connection.send(None)
                case ("connected",):
                    connection.send(sum(event.is_set() for event in self._admitted))
                case ("troubles",):
                    connection.send(list(self._troubles))
                case _:
                    return

    async def _restart(self, indexes: range) -> None:
        for index in indexes:
            self._tasks[index].cancel()
        await asyncio.wait([self._tasks[index] for index in indexes])
        for index in indexes:
            self._admitted[index].clear()
            self._tasks[index] = asyncio.create_task(self._keep(index))
        await asyncio.gather(*(self._admitted[index].wait() for index in indexes))

    async def _keep(self, index: int) -> None:
        while True:
            try:
                await self._stream(index)
            except grpc.aio.AioRpcError as error:
                # gRPC makes an error of its own of a cancellation that meets the reading of a message.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    return
                self._troubles[f"{error.code().name}: {error.details()}"] = None
            self._admitted[index].clear()
            await asyncio.sleep(1.0)

    async def _stream(self, index: int) -> None:
        async with grpc.aio.secure_channel(self._address, self._credentials, options=OPTIONS) as channel:
            async with self._gate:
                call = pb_grpc.ScreeningControlStub(channel).Subscribe(
                    metadata=(("authorization", f"Bearer {self._tokens[index]}"),)
                )
                await call.initial_metadata()
                hello = pb.Hello(sidecar_version="bench", complete=True)
                hello.formats.extend(["rules/1", "iv4/1", "iv6/1"])
                await call.write(pb.SidecarMessage(hello=hello))
            self._admitted[index].set()
            async for message in call:
                await self._answer(call, message)

    async def _answer(self, call: Any, message: pb.ControlMessage) -> None:
        match message.WhichOneof("message"):
            case "snapshot":
                snapshot = message.snapshot
                ack = pb.Ack(nonce=snapshot.nonce, version=snapshot.version)
                await call.write(pb.SidecarMessage(ack=ack))
                self._acks[snapshot.name, snapshot.generation].append(time.monotonic())
            case "unmanaged":
                await call.write(pb.SidecarMessage(ack=pb.Ack(nonce=message.unmanaged.nonce)))


def _received(connection: Connection) -> tuple[Any, ...]:
    try:
        question: tuple[Any, ...] = connection.recv()
    except EOFError:
        os._exit(0)
    return question
