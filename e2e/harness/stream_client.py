"""A sidecar's end of the control stream, and nothing else of a sidecar: a test decides what it answers.

Contract: `with StreamClient(address, ca_pem, token) as client:` says Hello; `receive` waits for the next
message. Trust bundles are set aside (`trust_bundle`). The stream is read in a thread of its own, for a blocking read can't be bounded
in time.
"""

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import grpc
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

TIMEOUT = 10.0
"""Seconds for a message that is expected."""


class StreamClient:
    """token None: none is sent. hello: what it claims to have in force."""

    def __init__(
        self, address: str, ca_pem: bytes, token: str | None, *, hello: pb.Hello | None = None
    ) -> None:
        self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_pem))
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._hello = hello or pb.Hello(sidecar_version="e2e", complete=True)
        self._outgoing: queue.SimpleQueue[pb.SidecarMessage | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[pb.ControlMessage | grpc.RpcError | None] = queue.SimpleQueue()

        self._bundles: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.details = ""
        """Of the status with which the stream ended."""

    def __enter__(self) -> Self:
        self.send(pb.SidecarMessage(hello=self._hello))
        self._call = pb_grpc.ScreeningControlStub(self._channel).Subscribe(
            self._messages(), metadata=self._metadata
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outgoing.put(None)
        self._call.cancel()
        self._reader.join(TIMEOUT)
        self._channel.close()

    def send(self, message: pb.SidecarMessage) -> None:
        self._outgoing.put(message)

    def receive(self, timeout: float = TIMEOUT) -> pb.ControlMessage:
        """The next message.

        Raises AssertionError after `timeout` seconds, and grpc.RpcError if the stream ended.
        """
        try:
            message = self._incoming.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"nothing from the operator for {timeout:g} s") from None
        if isinstance(message, grpc.RpcError):
            raise message
        assert message is not None, "the operator ended the stream without an error"
        return message

    def snapshot(self, timeout: float = TIMEOUT) -> pb.Snapshot:
        """The next message, which must be a snapshot."""
        message = self.receive(timeout)
        assert message.WhichOneof("message") == "snapshot", message
        return message.snapshot

    def ack(self, snapshot: pb.Snapshot) -> None:
        self.send(pb.SidecarMessage(ack=pb.Ack(nonce=snapshot.nonce, version=snapshot.version)))

    def apply(self, timeout: float = TIMEOUT) -> pb.Snapshot:
        """The next message, a snapshot, acknowledged."""
        snapshot = self.snapshot(timeout)
        self.ack(snapshot)
        return snapshot

    def end(self, timeout: float = TIMEOUT) -> grpc.StatusCode:
        """The status with which the operator ends the stream; messages before it are passed over."""
        while True:
            try:
                self.receive(timeout)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                self.details = error.details() or ""
                return code

    def fetch(self, digest: str) -> bytes:
        """A blob, by FetchBlob. Raises grpc.RpcError."""
        stub = pb_grpc.ScreeningControlStub(self._channel)
        chunks = stub.FetchBlob(pb.BlobRequest(hash=digest), metadata=self._metadata, timeout=TIMEOUT)
        return b"".join(chunk.data for chunk in chunks)

    def trust_bundle(self, timeout: float = TIMEOUT) -> bytes:
        """The next trust bundle, PEM. Raises queue.Empty."""
        return self._bundles.get(timeout=timeout)

    def _messages(self) -> Iterator[pb.SidecarMessage]:
        while (message := self._outgoing.get()) is not None:
            yield message

    def _read(self) -> None:
        try:
            for message in self._call:
                if message.HasField("trust_bundle"):
                    self._bundles.put(message.trust_bundle.pem)
                else:
                    self._incoming.put(message)
            self._incoming.put(None)
        except grpc.RpcError as error:
            self._incoming.put(error)
