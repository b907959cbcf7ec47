"""The gRPC server that sidecars subscribe to (`screening.proto`).

Contract: `ScreeningServer(registry, authenticator)` serves on TLS ports and on unix sockets until `stop`.
Until the registry is ready every call is UNAVAILABLE. A stream asks its subscription for the next message
whenever it was woken and the last one is written: a slow sidecar therefore costs one message of memory, and
gets the newest wish next.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from postwarden_operator.controlplane.identity import AuthenticationFailed, Authenticator, Identity, Refusal
from postwarden_operator.controlplane.registry import End, Registry, Stream
from postwarden_operator.controlplane.subscription import Subscription
from postwarden_operator.controlplane.tls import CertificateFiles

CHUNK = 64 * 1024
"""Bytes of a BlobChunk: the .proto's limit."""

TRANSFERS = 32
"""FetchBlob calls served at a time.

The others wait. It bounds memory when a list changes for thousands of pods.
"""

RECEIVE_LIMIT = 256 * 1024
"""Bytes of a message from a sidecar: the longest, a Nack with its reason, is far below."""

ADMITTED = "postwarden-admitted"
"""Initial metadata of a stream that is let in (`screening.proto`)."""

HELLO_TIMEOUT = 10.0
"""Seconds in which the Hello must come."""

OPTIONS = (
    ("grpc.max_receive_message_length", RECEIVE_LIMIT),
    # Sidecars ping every 30 s; the default of 5 min would send them away (too_many_pings, measured).
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A node that vanished is noticed within 40 s; else its sidecars would count as synced for ever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The one above is TCP's, for data that is not acknowledged; a ping has a minute by default (measured).
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Two operators on one port would share the sidecars by chance.
    ("grpc.so_reuseport", 0),
)

_ENDS = {
    End.REPLACED: grpc.StatusCode.ABORTED,
    End.POD_GONE: grpc.StatusCode.PERMISSION_DENIED,
    End.SHUTDOWN: grpc.StatusCode.UNAVAILABLE,
}

_REFUSALS = {refusal: grpc.StatusCode[refusal.value] for refusal in Refusal}

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class ListenFailed(Exception):
    """The address can't be listened on; the text says which and why."""


class ScreeningServer:
    """Add addresses, `start`, `stop`; all in one event loop."""

    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry = registry
        self._server = grpc.aio.server(options=OPTIONS)
        pb_grpc.add_ScreeningControlServicer_to_server(_Servicer(registry, authenticator), self._server)

    def serve_peers(self, servicer: pb_grpc.PeersServicer) -> None:
        """Serve other replicas, too; before `start`."""
        pb_grpc.add_PeersServicer_to_server(servicer, self._server)

    def listen_tls(self, address: str, certificate: CertificateFiles) -> int:
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


class _Servicer(pb_grpc.ScreeningControlServicer):
    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._transfers = asyncio.Semaphore(TRANSFERS)

    async def Subscribe(
        self, request_iterator: AsyncIterator[pb.SidecarMessage], context: _Context
    ) -> AsyncIterator[pb.ControlMessage]:
        identity = await self._identify(context)
        await context.send_initial_metadata(((ADMITTED, "true"),))
        hello = await _hello(request_iterator, context)
        subscription = Subscription(revision=hello.revision, version=hello.version, complete=hello.complete)
        stream = self._registry.subscribe(identity, subscription)
        name = f"{identity.namespace}/{identity.name}"
        _log.info("%s is here (%s), version %s", name, hello.sidecar_version, hello.version or "none")
        reader = asyncio.create_task(self._read(stream, request_iterator))
        reader.add_done_callback(lambda _: stream.wake.set())
        try:
            while stream.end is None and not reader.done():
                stream.wake.clear()
                # The newest wish at this moment; those that came and went during the last write are not sent.
                message = subscription.next_message(secrets.token_hex(8))
                if message is not None:
                    yield message
                else:
                    await stream.wake.wait()
        finally:
            self._registry.unsubscribe(stream)
            reader.cancel()
            # Its exception, if any, is the end of this very call, which gRPC reports to the sidecar.
            await asyncio.gather(reader, return_exceptions=True)
            _log.info("the stream of %s is over", name)
        if stream.end is not None:
            await context.abort(_ENDS[stream.end], stream.end.value)

    async def _read(self, stream: Stream, messages: AsyncIterator[pb.SidecarMessage]) -> None:
        """Until the sidecar ends its side."""
        subscription, pod = stream.subscription, stream.identity
        async for message in messages:
            match message.WhichOneof("message"):
                case "ack":
                    subscription.receive_ack(message.ack.nonce, message.ack.version)
                case "nack":
                    _log.warning("%s/%s refuses its rules: %s", pod.namespace, pod.name, message.nack.reason)
                    subscription.receive_nack(message.nack.nonce, message.nack.reason, message.nack.version)
                case "handoff":
                    subscription.receive_handoff(message.handoff.state, message.handoff.detail)
                case "dnsbl":
                    report = message.dnsbl
                    subscription.receive_dnsbl(report.zone, report.state, report.detail)
                case _:
                    continue  # a newer sidecar's: it means nothing to us
            self._registry.answered(stream)

    async def FetchBlob(self, request: pb.BlobRequest, context: _Context) -> AsyncIterator[pb.BlobChunk]:
        identity = await self._identify(context)
        data = self._registry.blob(identity.pod_uid, request.hash)
        if data is None:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "no such blob in the snapshot last sent to this pod"
            )
        async with self._transfers:
            for start in range(0, len(data), CHUNK):
                yield pb.BlobChunk(data=data[start : start + CHUNK])

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
            return await self._authenticator.authenticate(token)
        except AuthenticationFailed as failure:
            _log.warning("refused a sidecar: %s", failure)
            await context.abort(_REFUSALS[failure.code], str(failure))


async def _hello(messages: AsyncIterator[pb.SidecarMessage], context: _Context) -> pb.Hello:
    """The first message, or the call ends."""
    message = pb.SidecarMessage()
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        message = await asyncio.wait_for(anext(messages), HELLO_TIMEOUT)
    if not message.HasField("hello"):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the first message must be Hello")
    return message.hello
