"""Tables are fetched once, checked as they come, and asked for again where the operator can't serve them now."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest
from controlclient.snapshots import add_blob, snapshot
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient.blobs import AT_ONCE, LONGEST_SPREAD, SPREAD_RATE, Blobs
from postwarden_sidecar.controlclient.decode_values import Undecodable
from postwarden_sidecar.controlclient.target import TokenUnreadable
from postwarden_sidecar.rules.intervals import Buffer, encode4

pytestmark = pytest.mark.looptime


def table(number: int, rows: int = 3) -> bytes:
    return encode4([(number * 1000 + 2 * row, number * 1000 + 2 * row, 2, row + 1) for row in range(rows)])


class Transfer:
    """What gRPC gives for a call: chunks, or an error."""

    def __init__(self, operator: Operator, digest: str) -> None:
        self._operator, self._digest = operator, digest
        self.cancelled = False

    def cancel(self) -> bool:
        self.cancelled = True
        return True

    async def __aiter__(self) -> AsyncIterator[pb.BlobChunk]:
        operator = self._operator
        operator.running += 1
        operator.most = max(operator.most, operator.running)
        try:
            await asyncio.sleep(operator.latency)
            if operator.failures:
                raise operator.failures.pop(0)
            content = operator.contents[self._digest]
            for start in range(0, len(content), 16):
                yield pb.BlobChunk(data=content[start : start + 16])
        finally:
            operator.running -= 1


class Operator:
    """Serves contents; fails in turn with what it is told."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failures: list[Exception] = []
        self.transfers: list[Transfer] = []
        self.latency = 1.0
        self.running = self.most = 0

    def fetch(self, digest: str) -> Any:
        self.asked.append(digest)
        self.transfers.append(Transfer(self, digest))
        return self.transfers[-1]

    def snapshot(self, *numbers: int) -> pb.Snapshot:
        """One that names these tables."""
        message = snapshot()
        for number in numbers:
            content = table(number)
            self.contents[add_blob(message, content, "iv4/1", inline=False)] = content
        return message


def refusal(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "so it is")


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def blobs() -> Blobs:
    return Blobs(lambda low, high: low)


def now() -> float:
    return asyncio.get_running_loop().time()


async def contents(
    blobs: Blobs, operator: Operator, message: pb.Snapshot, **known: Buffer
) -> Mapping[str, Buffer]:
    return await blobs.contents(message, known, operator.fetch)


async def test_all_that_is_named_is_had_and_what_is_in_force_is_not_fetched(
    operator: Operator, blobs: Blobs
) -> None:
    known = memoryview(table(2))
    message = operator.snapshot(1, 2, 3)
    digest = hashlib.sha256(known).hexdigest()
    found = await contents(blobs, operator, message, **{digest: known})
    assert {name: bytes(content) for name, content in found.items()} == operator.contents
    assert found[digest] is known
    assert sorted(operator.asked) == sorted(operator.contents.keys() - {digest})


async def test_a_few_are_fetched_at_once(operator: Operator, blobs: Blobs) -> None:
    began = now()
    await contents(blobs, operator, operator.snapshot(*range(3 * AT_ONCE)))
    assert operator.most == AT_ONCE
    assert now() - began == pytest.approx(3.0)


async def test_what_a_replaced_snapshot_had_fetched_is_not_fetched_again(
    operator: Operator, blobs: Blobs
) -> None:
    first = asyncio.create_task(contents(blobs, operator, operator.snapshot(*range(2 * AT_ONCE))))
    await asyncio.sleep(1.5)
    first.cancel()
    await asyncio.wait([first])
    assert operator.running == 0
    operator.asked.clear()
    await contents(blobs, operator, operator.snapshot(*range(2 * AT_ONCE)))
    assert len(operator.asked) == AT_ONCE
    blobs.forget()
    operator.asked.clear()
    await contents(blobs, operator, operator.snapshot(1))
    assert len(operator.asked) == 1


@pytest.mark.parametrize(
    "failure",
    [
        refusal(grpc.StatusCode.UNAVAILABLE),
        refusal(grpc.StatusCode.RESOURCE_EXHAUSTED),
        refusal(grpc.StatusCode.DEADLINE_EXCEEDED),
        refusal(grpc.StatusCode.UNAUTHENTICATED),
        TokenUnreadable("the token's file is empty"),
    ],
    ids=lambda failure: getattr(failure, "code", lambda: "token")(),
)
async def test_an_operator_that_can_not_serve_now_is_asked_again_later_and_later(
    operator: Operator, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    operator.failures = [failure] * 5
    operator.latency = 0.0
    began = now()
    found = await contents(Blobs(lambda low, high: high), operator, operator.snapshot(1))
    assert dict(found) == operator.contents
    assert now() - began == pytest.approx(1 + 2 + 4 + 8 + 16, abs=0.1)
    assert caplog.text.count("is asked for again") == 5


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND])
async def test_a_table_that_the_operator_will_not_give_is_refused_at_once(
    operator: Operator, blobs: Blobs, code: grpc.StatusCode
) -> None:
    operator.failures = [refusal(code)]
    with pytest.raises(Undecodable, match=f"can't be fetched: {code.name}: so it is"):
        await contents(blobs, operator, operator.snapshot(1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (table(1)[:-13], "has 26 bytes in place of 39"),
        (bytes(39), "has another hash"),
        (table(1) + bytes(16), "has more than its 39 bytes"),
    ],
)
async def test_a_table_that_is_not_what_it_says_is_refused(
    operator: Operator, blobs: Blobs, content: bytes, reason: str
) -> None:
    message = operator.snapshot(1)
    operator.contents[message.blobs[0].hash] = content
    with pytest.raises(Undecodable, match=reason):
        await contents(blobs, operator, message)
    # Nothing of it is kept: once it is right, it is had.
    operator.snapshot(1)
    assert await contents(blobs, operator, message)


async def test_too_large_a_transfer_is_broken_off(operator: Operator, blobs: Blobs) -> None:
    message = operator.snapshot(1)
    operator.contents[message.blobs[0].hash] = bytes(1000)
    with pytest.raises(Undecodable):
        await contents(blobs, operator, message)
    assert operator.transfers[0].cancelled


async def test_rows_that_can_not_be_searched_are_refused(operator: Operator, blobs: Blobs) -> None:
    message = snapshot()
    content = encode4([(9, 9, 1, 1), (1, 1, 1, 2)])
    operator.contents[add_blob(message, content, "iv4/1", inline=False)] = content
    with pytest.raises(Undecodable, match="row 1 of an address table overlaps another or is out of order"):
        await contents(blobs, operator, message)


async def test_sidecars_that_all_need_much_do_not_begin_together(operator: Operator) -> None:
    spreads: list[float] = []

    def uniform(low: float, high: float) -> float:
        spreads.append(high)
        return low

    await contents(Blobs(uniform), operator, operator.snapshot(1))
    large = snapshot()
    large.blobs.add(hash="ab", format="iv4/1", size=20 * SPREAD_RATE)
    operator.contents["ab"] = b""
    with pytest.raises(Undecodable):
        await contents(Blobs(uniform), operator, large)
    assert spreads == [39 / SPREAD_RATE, LONGEST_SPREAD]
