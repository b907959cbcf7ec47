"""The tables of a snapshot: what is at hand already, and what has to be fetched from the operator.

Contract: content is known by its hash, wherever it comes from: the rules in force (also those from disk), or what was fetched for a
snapshot that a newer one replaced. What is wrong with a content is Undecodable, and the snapshot is refused; an operator that can't
serve now is asked again, for as long as nobody cancels. A content is checked as it comes in, between two awaits: 0.5 ms for a shard,
where checking all of a million networks at once would stop everything else for 0.1 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_sidecar.controlclient.backoff import Backoff
from postwarden_sidecar.controlclient.decode import blobs_to_fetch, check
from postwarden_sidecar.controlclient.decode_values import Undecodable
from postwarden_sidecar.controlclient.target import TokenUnreadable
from postwarden_sidecar.rules.intervals import Buffer

AT_ONCE = 4  # transfers of one sidecar; the operator serves 32 at once (design)
SPREAD_RATE = (
    8 * 1024 * 1024
)  # bytes/s: sidecars that all need so much begin within the time that it takes one at this rate
LONGEST_SPREAD = 5.0  # seconds
_PASSING = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,  # a token that expired a moment ago: kubelet writes it anew
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )
)
"""What the next attempt may not meet any more."""

FetchBlob = Callable[[str], grpc.aio.UnaryStreamCall[Any, pb.BlobChunk]]
"""Begins the transfer of a blob by its hash. Raises TokenUnreadable."""

_log = logging.getLogger(__name__)


class Blobs:
    """Outlives the streams: what one has fetched, the next need not fetch again."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        """uniform: the source of jitter."""
        self._uniform = uniform
        self._fetched: dict[str, bytes] = {}

    async def contents(
        self, snapshot: pb.Snapshot, in_force: Mapping[str, Buffer], fetch: FetchBlob
    ) -> dict[str, Buffer]:
        """By hash, what the snapshot names and does not hold, each checked. in_force: by hash, of the rules in force. Raises
        Undecodable."""
        named = {blob.hash for blob in snapshot.blobs}
        self._fetched = {digest: content for digest, content in self._fetched.items() if digest in named}
        missing = blobs_to_fetch(snapshot, in_force.keys() | self._fetched.keys())
        if missing:
            await self._fetch_all(missing, fetch)
        known = {digest: in_force[digest] for digest in named if digest in in_force}
        return {**known, **self._fetched}

    def forget(self) -> None:
        """The snapshot is in force: what was fetched is part of the rules now."""
        self._fetched = {}

    async def _fetch_all(self, blobs: list[pb.Blob], fetch: FetchBlob) -> None:
        size = sum(blob.size for blob in blobs)
        await asyncio.sleep(self._uniform(0.0, min(size / SPREAD_RATE, LONGEST_SPREAD)))
        waiting = iter(blobs)
        try:
            async with asyncio.TaskGroup() as transfers:
                for _ in range(min(AT_ONCE, len(blobs))):
                    transfers.create_task(self._fetch_each(waiting, fetch))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        _log.info("fetched %d tables of the rules, %d bytes", len(blobs), size)

    async def _fetch_each(self, waiting: Iterator[pb.Blob], fetch: FetchBlob) -> None:
        for blob in waiting:
            content = await self._fetch(blob, fetch)
            check(blob, content)
            self._fetched[blob.hash] = content

    async def _fetch(self, blob: pb.Blob, fetch: FetchBlob) -> bytes:
        backoff = Backoff(self._uniform)
        while True:
            try:
                return await _transfer(blob, fetch)
            except TokenUnreadable as error:
                reason = str(error)
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details() or 'no details'}"
                if error.code() not in _PASSING:
                    raise Undecodable(f"blob {blob.hash[:12]} can't be fetched: {reason}") from error
            wait = backoff.next_wait()
            _log.warning("blob %s is asked for again in %.1f s: %s", blob.hash[:12], wait, reason)
            await asyncio.sleep(wait)


async def _transfer(blob: pb.Blob, fetch: FetchBlob) -> bytes:
    content = bytearray()
    call = fetch(blob.hash)
    async for chunk in call:
        content += chunk.data
        if len(content) > blob.size:
            call.cancel()
            raise Undecodable(f"blob {blob.hash[:12]} has more than its {blob.size} bytes")
    return bytes(content)
