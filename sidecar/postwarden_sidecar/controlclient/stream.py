"""One stream to the operator: Hello out, messages in, answers and reports out, blobs on the side.

A newer snapshot cancels the work on an older one, which then gets no answer. It ends with the call, by
`cancel`, or with StreamLost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Protocol

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from postwarden_sidecar.controlclient.blobs import Blobs
from postwarden_sidecar.controlclient.decode import FEATURES, FORMATS, decode, policy_ref
from postwarden_sidecar.controlclient.decode_values import Undecodable
from postwarden_sidecar.controlclient.target import ControlTarget
from postwarden_sidecar.controlclient.trust import Trust, TrustUnusable
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import PolicyRef, Rules

RECEIVE_LIMIT = 2 * 1024 * 1024  # bytes of one message; a snapshot has 1 MiB at most (design)
ADMITTED = "postwarden-admitted"  # initial metadata of a stream that is let in (screening.proto)
CONNECT_TIMEOUT = 20.0  # seconds until TCP and TLS stand; gRPC's own first attempt has 20 s
BLOB_TIMEOUT = 120.0  # seconds for one blob; 32 transfers run at once at the operator, others queue
CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.http2.max_pings_without_data", 0),  # a stream without news is the normal case
    ("grpc.max_receive_message_length", RECEIVE_LIMIT),
    ("grpc.enable_retries", 0),  # the client reconnects itself
    # A new stream has its own connection, or replicas would not share the load.
    ("grpc.use_local_subchannel_pool", 1),
]

_log = logging.getLogger(__name__)


Pushed = Callable[[str, float, float, PolicyRef, str], None]
"""Told of each snapshot that came: its traceparent, when it came and when it was in force or refused (epoch seconds), whose it is, and
why it was refused ("": it was not). One that a newer one overtook is not told of."""


class NotApplied(Exception):
    """The rules could not be put in force; the message says why in one sentence, the previous are in
    force."""


class StreamLost(Exception):
    """The stream has ended; the message says why in one sentence."""


class RulesSink(Protocol):
    """Who puts in force what the operator says."""

    @property
    def in_force(self) -> PolicyRef | None:
        """Whose rules every worker has applied."""

    @property
    def complete(self) -> bool:
        """False: what is in force came from disk, and lacks what needs a Secret's key."""

    @property
    def tables(self) -> Mapping[str, Buffer]:
        """By hash, those of what is in force."""

    async def apply(self, rules: Rules) -> None:
        """Returns when every worker has applied them. Raises NotApplied. May be cancelled: newer ones
        follow."""

    async def unmanaged(self) -> None:
        """No policy: as the bootstrap says, in every worker; the last known good is forgotten. Raises
        NotApplied."""

    async def hold(self, reason: str) -> None:
        """Keep what is in force."""

    def trust(self, pem: bytes) -> None:
        """Keep these certificates: they are trusted from the next connection on, besides those of the start-up setting."""


class Stream:
    """Made by `connect`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        target: ControlTarget,
        trust: Trust,
        sink: RulesSink,
        blobs: Blobs,
        applied: Callable[[], Awaitable[None]] | None,
        pushed: Pushed | None,
    ) -> None:
        self._channel = channel
        self._target = target
        self._trust = trust
        self._sink = sink
        self._blobs = blobs
        self._applied = applied
        self._pushed = pushed
        self._stub = pb_grpc.ScreeningControlStub(channel)
        self._call = self._stub.Subscribe(metadata=_credentials(target))
        self._work: asyncio.Task[None] | None = None
        self._one_write = asyncio.Lock()
        self._writes: set[asyncio.Task[StreamLost | None]] = set()
        self.heard = False  # a message came in: this operator is of use

    @classmethod
    async def connect(
        cls,
        target: ControlTarget,
        trust: Trust,
        sink: RulesSink,
        blobs: Blobs,
        hello: pb.Hello,
        applied: Callable[[], Awaitable[None]] | None = None,
        pushed: Pushed | None = None,
    ) -> Stream:
        """Connect and say Hello. applied: called after each acknowledged snapshot. pushed: see there. Raises StreamLost,
        TokenUnreadable."""
        target.read_token()  # before a channel is made
        options = [*CHANNEL_OPTIONS, *target.keepalive_options]
        roots = trust.pem
        if roots is None:
            channel = grpc.aio.insecure_channel(target.address, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(roots)
            channel = grpc.aio.secure_channel(target.address, credentials, options=options)
        stream = cls(channel, target, trust, sink, blobs, applied, pushed)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await stream._admitted()
                await stream.send(pb.SidecarMessage(hello=hello))
        except BaseException as error:
            await stream._close()
            if isinstance(error, TimeoutError):
                why = f"no connection to {target.address} within {CONNECT_TIMEOUT:.0f} s"
                raise StreamLost(why) from error
            raise
        return stream

    async def _admitted(self) -> None:
        """Wait until the operator has let us in: gRPC makes "Internal error" of a write that meets a refusal, whatever its reason."""
        if ADMITTED not in dict(await self._call.initial_metadata()):
            code = await self._call.code()  # a refusal has no initial metadata, only a status
            raise StreamLost(f"{code.name}: {await self._call.details() or 'no details'}")

    async def run(self) -> None:
        """Serve until the end. Raises StreamLost, always; cancel it to end the stream."""
        try:
            async for message in self._call:
                self.heard = True
                await self._receive(message)
        except grpc.aio.AioRpcError as error:
            raise StreamLost(_said(error)) from error
        finally:
            await self._abandon_work()
            await self._close()
        raise StreamLost("the operator ended the stream")

    async def send(self, message: pb.SidecarMessage) -> None:
        """Tell something. Raises StreamLost."""
        # In a task of its own: gRPC ends the whole call if a write is cancelled.
        write = asyncio.create_task(self._write_alone(message))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        lost = await asyncio.shield(write)
        if lost is not None:
            raise lost

    async def _write_alone(self, message: pb.SidecarMessage) -> StreamLost | None:
        # One at a time: a second write beside the first breaks the call without an end to its reading
        # (measured with grpcio 1.85: "Internal error from Core"), and the sidecar would be deaf.
        async with self._one_write:
            try:
                await self._call.write(message)
            except grpc.aio.AioRpcError as error:
                return StreamLost(_said(error))
            except (asyncio.CancelledError, asyncio.InvalidStateError):  # the call is over; `run` says why
                return StreamLost("the stream has ended")
        return None

    async def _close(self) -> None:
        self._call.cancel()
        for write in tuple(self._writes):
            write.cancel()
        if self._writes:
            await asyncio.wait(self._writes)
        await self._channel.close()

    async def _receive(self, message: pb.ControlMessage) -> None:
        match message.WhichOneof("message"):
            case "snapshot":
                snapshot = message.snapshot
                await self._begin(snapshot.nonce, snapshot.version, lambda: self._apply(snapshot))
            case "unmanaged":
                await self._begin(message.unmanaged.nonce, "", self._sink.unmanaged)
            case "hold":
                await self._sink.hold(message.hold.reason)
            case "trust_bundle":
                await self._take_trust(message.trust_bundle.pem)
            case _:
                _log.warning("the operator sent a message of a kind that this release does not know")

    async def _take_trust(self, pem: bytes) -> None:
        try:
            self._trust.add(pem)
        except TrustUnusable as error:
            _log.warning("the operator's trust bundle is of no use, what was trusted stays: %s", error)
        else:
            self._sink.trust(pem)
            _log.info("the operator sent the certificates that it is to be trusted by from now on")
        report = pb.TrustReport()
        if (expires := self._trust.expires) is not None:
            report.trust_expires.FromSeconds(int(expires))
            with contextlib.suppress(StreamLost):  # `run` says why
                await self.send(pb.SidecarMessage(trust=report))

    async def _begin(self, nonce: str, version: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        await self._abandon_work()
        self._work = asyncio.create_task(self._answer(nonce, version, work))

    async def _abandon_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])

    async def _answer(
        self, nonce: str, version: str, work: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Do the work and acknowledge, or say why not."""
        answer = pb.SidecarMessage(ack=pb.Ack(nonce=nonce, version=version))
        try:
            await work()
        except Exception as error:
            fault = not isinstance(error, Undecodable | NotApplied)
            reason = f"a fault in the sidecar: {error!r}" if fault else str(error)
            _log.warning("version %s is not put in force: %s", version or "(none)", reason, exc_info=fault)
            policy = self._sink.in_force
            in_force = policy.version if policy is not None else ""
            answer = pb.SidecarMessage(nack=pb.Nack(nonce=nonce, reason=reason, version=in_force))
        with contextlib.suppress(StreamLost):  # `run` says why
            await self.send(answer)
            if version and answer.HasField("ack") and self._applied is not None:
                await self._applied()

    async def _apply(self, snapshot: pb.Snapshot) -> None:
        began = time.time()
        refused = ""
        try:
            await self._put_in_force(snapshot)
        except Exception as error:
            refused = str(error) or repr(error)
            raise
        finally:
            cancelled = isinstance(
                sys.exception(), asyncio.CancelledError
            )  # a newer one came, or the stream is over
            if self._pushed is not None and snapshot.traceparent and not cancelled:
                self._pushed(snapshot.traceparent, began, time.time(), policy_ref(snapshot), refused)

    async def _put_in_force(self, snapshot: pb.Snapshot) -> None:
        contents = await self._blobs.contents(snapshot, self._sink.tables, self._fetch)
        rules = await asyncio.to_thread(decode, snapshot, contents)
        await self._sink.apply(rules)
        self._blobs.forget()

    def _fetch(self, digest: str) -> grpc.aio.UnaryStreamCall[pb.BlobRequest, pb.BlobChunk]:
        # The token as it is now: that of the stream's begin may have expired long ago.
        return self._stub.FetchBlob(
            pb.BlobRequest(hash=digest), metadata=_credentials(self._target), timeout=BLOB_TIMEOUT
        )


def hello(
    sidecar_version: str, policy: PolicyRef | None, *, complete: bool, trust_expires: float | None = None
) -> pb.Hello:
    """Who we are, what is in force, whether that is all of it, and until when we can trust an operator's certificate."""
    message = pb.Hello(sidecar_version=sidecar_version, formats=FORMATS, features=FEATURES, complete=complete)
    if policy is not None:
        message.revision = policy.revision
        message.version = policy.version
    if trust_expires is not None:
        message.trust_expires.FromSeconds(int(trust_expires))
    return message


def _credentials(target: ControlTarget) -> tuple[tuple[str, str], ...]:
    """With the token of now. Raises TokenUnreadable."""
    return (("authorization", f"Bearer {target.read_token()}"),)


def _said(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}: {error.details() or 'no details'}"
