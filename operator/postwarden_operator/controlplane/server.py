"""The gRPC server that sidecars subscribe to (`screening.proto`).

Contract: `ScreeningServer(registry, authenticator)` serves on TLS ports and on unix sockets until `stop`.
Until the registry is ready every call is UNAVAILABLE. A stream asks its subscription for the next message
whenever it was woken and the last one is written: a slow sidecar therefore costs one message of memory, and
gets the newest wish next.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from postwarden_operator.controlplane.identity import AuthenticationFailed, Authenticator, Identity, Refusal
from postwarden_operator.controlplane.limits import MESSAGES, CallLimits, Pace, TooMany
from postwarden_operator.controlplane.pushes import NOBODY, PushObserver
from postwarden_operator.controlplane.registry import End, Registry, Stream
from postwarden_operator.controlplane.subscription import LONGEST_REASON, Subscription, shown
from postwarden_operator.controlplane.tls import Certificate

CHUNK = 64 * 1024
"""Bytes of a BlobChunk: the .proto's limit."""

RECEIVE_LIMIT = 256 * 1024
"""Bytes of a message from a sidecar: the longest, a Nack with its reason, is far below."""

ADMITTED = "postwarden-admitted"
"""Initial metadata of a stream that is let in (`screening.proto`)."""

HELLO_TIMEOUT = 10.0
"""Seconds in which the Hello must come."""

STREAM_LIFE = 45 * 60.0
"""Seconds after which a stream ends here: a token that was revoked must not hold one for ever. Sidecars end theirs after 36 min at most."""

WRITE_GRACE = 5.0
"""Seconds that a message under way may still take once the stream is to end: one that is never read is cut off."""

TRANSFER_TIMEOUT = 180.0
"""Seconds for a FetchBlob, its waiting included; a sidecar gives up after 120."""

OPTIONS = (
    ("grpc.max_receive_message_length", RECEIVE_LIMIT),
    # Sidecars ping every 30 s, at most every 10; the default of 5 min sends them away after 2 min without news (too_many_pings, measured).
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A node that vanished is noticed within 55 s; else its sidecars would count as synced for ever. Longer than the 30 s after which a
    # sidecar pings, which serves both: pings are nearly all that a thousand sidecars at rest cost.
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The one above is TCP's, for data that is not acknowledged; a ping has a minute by default (measured).
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A ping beside nearly every message, to measure the line: a fifth of the CPU of a change that goes to a thousand sidecars (measured).
    ("grpc.http2.bdp_probe", 0),
    # A sidecar has one Subscribe, two for a moment, and its FetchBlobs on a connection.
    ("grpc.max_concurrent_streams", 100),
    # A connection that shows no TLS, or asks for nothing.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),
    # Two operators on one port would share the sidecars by chance.
    ("grpc.so_reuseport", 0),
)

MALFORMED = grpc.StatusCode.INVALID_ARGUMENT, "what was sent is no message of this service"

_ENDS = {
    End.REPLACED: grpc.StatusCode.ABORTED,
    End.POD_GONE: grpc.StatusCode.PERMISSION_DENIED,
    End.SHUTDOWN: grpc.StatusCode.UNAVAILABLE,
    End.EXPIRED: grpc.StatusCode.UNAVAILABLE,
}

_REFUSALS = {refusal: grpc.StatusCode[refusal.value] for refusal in Refusal}

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class ListenFailed(Exception):
    """The address can't be listened on; the text says which and why."""


class ScreeningServer:
    """Add addresses, `start`, `stop`; all in one event loop."""

    def __init__(
        self, registry: Registry, authenticator: Authenticator, pushes: PushObserver = NOBODY
    ) -> None:
        self._registry = registry
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((_handlers(_Servicer(registry, authenticator, pushes)),))

    def serve_peers(self, servicer: pb_grpc.PeersServicer) -> None:
        """Serve other replicas, too; before `start`."""
        pb_grpc.add_PeersServicer_to_server(servicer, self._server)

    def listen_tls(self, address: str, certificate: Certificate) -> int:
        """Serve on HOST:PORT; the port, where 0 asked for any. Raises ListenFailed."""
        return self._listen(address, certificate.server_credentials())

    def listen_unix(self, path: Path) -> None:
        """Serve without TLS on a unix socket: who may open it is the folder's matter. Raises ListenFailed."""
        self._listen(f"unix:{path}", None)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ListenFailed(f"can't listen on {address}: {error}") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        """End every stream with UNAVAILABLE, so that sidecars look for another replica; close the ports."""
        self._registry.finish_all()
        await self._server.stop(grace=1.0)


class _Servicer:
    """Coroutines that write, not generators: only so can a write that nobody reads be given up with a status."""

    def __init__(self, registry: Registry, authenticator: Authenticator, pushes: PushObserver) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._pushes = pushes
        self._limits = CallLimits()

    async def Subscribe(self, request_iterator: AsyncIterator[pb.SidecarMessage], context: _Context) -> None:
        identity = await self._identify(context)
        loop = asyncio.get_running_loop()
        try:
            self._limits.new_stream(identity.pod_uid, loop.time())
        except TooMany as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        await context.send_initial_metadata(((ADMITTED, "true"),))
        hello = await _hello(request_iterator, context)
        subscription = Subscription(revision=hello.revision, version=hello.version, complete=hello.complete)
        told = _seconds(hello.trust_expires) if hello.HasField("trust_expires") else None
        stream = self._registry.subscribe(identity, subscription, told)
        name = f"{identity.namespace}/{identity.name}"
        _log.info(
            "%s is here (%s), version %s", name, shown(hello.sidecar_version), shown(hello.version) or "none"
        )
        reader = asyncio.create_task(self._read(stream, request_iterator))
        reader.add_done_callback(lambda _: stream.wake.set())
        life = loop.call_later(STREAM_LIFE, stream.finish, End.EXPIRED)
        nonce = 1
        try:
            while stream.end is None and not reader.done():
                stream.wake.clear()
                # The newest wish at this moment; those that came and went during the last write are not sent.
                message = stream.trust.next_message() or subscription.next_message(str(nonce))
                if message is not None:
                    nonce += 1
                    if message.HasField("snapshot"):
                        message.snapshot.traceparent = self._pushes.sent(identity, message.snapshot)
                    await _write(stream, message, context)
                else:
                    await stream.wake.wait()
        finally:
            life.cancel()
            self._registry.unsubscribe(stream)
            if stream.end is not End.REPLACED:
                self._pushes.lost(identity)
            reader.cancel()
            # Its exception, but for one, is the end of this very call, which gRPC reports to the sidecar.
            (fault,) = await asyncio.gather(reader, return_exceptions=True)
            _log.info("the stream of %s is over", name)
        if stream.end is not None:
            await context.abort(_ENDS[stream.end], stream.end.value)
        if isinstance(fault, DecodeError):
            await context.abort(*MALFORMED)

    async def _read(self, stream: Stream, messages: AsyncIterator[pb.SidecarMessage]) -> None:
        """Until the sidecar ends its side."""
        subscription, pod = stream.subscription, stream.identity
        loop, pace = asyncio.get_running_loop(), Pace(*MESSAGES)
        async for message in messages:
            # Who says too much is read slowly: what it sends waits at its end.
            await asyncio.sleep(pace.take(loop.time()))
            match message.WhichOneof("message"):
                case "ack":
                    subscription.receive_ack(message.ack.nonce, message.ack.version)
                    self._pushes.answered(pod, message.ack.nonce, "")
                case "nack":
                    reason = shown(message.nack.reason, LONGEST_REASON)
                    _log.warning("%s/%s refuses its rules: %s", pod.namespace, pod.name, reason)
                    subscription.receive_nack(message.nack.nonce, message.nack.reason, message.nack.version)
                    self._pushes.answered(pod, message.nack.nonce, reason or "refused without a reason")
                case "handoff":
                    subscription.receive_handoff(message.handoff.state, message.handoff.detail)
                case "dnsbl":
                    report = message.dnsbl
                    subscription.receive_dnsbl(report.zone, report.state, report.detail)
                case "lost_address":
                    subscription.receive_lost_address(
                        message.lost_address.address, message.lost_address.detail
                    )
                case "steering":
                    subscription.receive_steering(message.steering.problem)
                case "trust":
                    stream.trust.receive_report(_seconds(message.trust.trust_expires))
                case _:
                    continue  # a newer sidecar's: it means nothing to us
            self._registry.answered(stream)

    async def FetchBlob(self, request: pb.BlobRequest | None, context: _Context) -> None:
        """request None: what came is none."""
        identity = await self._identify(context)
        if request is None:
            await context.abort(*MALFORMED)
        data = self._registry.blob(identity.pod_uid, request.hash)
        if data is None:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "no such blob in the snapshot last sent to this pod"
            )
        try:
            async with asyncio.timeout(TRANSFER_TIMEOUT), self._limits.transfer(identity.pod_uid):
                for start in range(0, len(data), CHUNK):
                    await context.write(pb.BlobChunk(data=data[start : start + CHUNK]))
        except TimeoutError:
            # Whoever does not read has made room for others by now. The status does not get past a write that waits for it: then its own
            # deadline tells it (measured with grpcio 1.85).
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the transfer took too long")

    async def _identify(self, context: _Context) -> Identity:
        """Ends the call where the token is not good."""
        if not self._registry.ready:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the operator has not read all policies yet")
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not token:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "no token: metadata `authorization: Bearer TOKEN` is needed"
            )
        try:
            with self._limits.unproven(context.peer()):
                return await self._authenticator.authenticate(token)
        except TooMany as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except AuthenticationFailed as failure:
            _log.warning("refused a sidecar: %s", failure)
            await context.abort(_REFUSALS[failure.code], str(failure))


def _handlers(servicer: _Servicer) -> grpc.GenericRpcHandler:
    """As the generated code registers them, but that a malformed request for a blob gets our status, and no traceback in the log."""
    return grpc.method_handlers_generic_handler(
        "postwarden.screening.v1.ScreeningControl",
        {
            "Subscribe": grpc.stream_stream_rpc_method_handler(
                servicer.Subscribe,
                request_deserializer=pb.SidecarMessage.FromString,
                response_serializer=pb.ControlMessage.SerializeToString,
            ),
            "FetchBlob": grpc.unary_stream_rpc_method_handler(
                servicer.FetchBlob,
                request_deserializer=_blob_request,
                response_serializer=pb.BlobChunk.SerializeToString,
            ),
        },
    )


def _blob_request(data: bytes) -> pb.BlobRequest | None:
    try:
        return pb.BlobRequest.FromString(data)
    except DecodeError:
        return None


async def _hello(messages: AsyncIterator[pb.SidecarMessage], context: _Context) -> pb.Hello:
    """The first message, or the call ends."""
    message = pb.SidecarMessage()
    try:
        message = await asyncio.wait_for(anext(messages), HELLO_TIMEOUT)
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello came within {HELLO_TIMEOUT:.0f} s")
    except StopAsyncIteration:
        pass
    except DecodeError:
        await context.abort(*MALFORMED)
    if not message.HasField("hello"):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the first message must be Hello")
    return message.hello


async def _write(stream: Stream, message: pb.ControlMessage, context: _Context) -> None:
    """Until it is on its way; given up WRITE_GRACE after the stream is to end, for a sidecar that never reads."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            stream.on_end = lambda: limit.reschedule(loop.time() + WRITE_GRACE)
            await context.write(message)
    except TimeoutError:
        _log.info("%s/%s does not read", stream.identity.namespace, stream.identity.name)
    finally:
        stream.on_end = None


def _seconds(time: Timestamp) -> float:
    """Since the epoch; whole seconds, as certificates have them."""
    return float(time.seconds)
