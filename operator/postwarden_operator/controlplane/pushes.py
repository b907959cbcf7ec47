"""Who is told of the snapshots that go to sidecars, and of their answers; for telemetry."""

from typing import Protocol

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.controlplane.identity import Identity


class PushObserver(Protocol):
    """No call blocks or raises."""

    def sent(self, pod: Identity, snapshot: pb.Snapshot) -> str:
        """It is about to be sent. The W3C traceparent to go with it; empty for none."""

    def answered(self, pod: Identity, nonce: str, refused: str) -> None:
        """The sidecar has answered the message of that nonce; refused: why not, else empty."""

    def lost(self, pod: Identity) -> None:
        """Its stream is over, and no other has replaced it: what is not answered will not be."""


class NoPushObserver:
    """Tells nobody."""

    def sent(self, pod: Identity, snapshot: pb.Snapshot) -> str:
        return ""

    def answered(self, pod: Identity, nonce: str, refused: str) -> None:
        pass

    def lost(self, pod: Identity) -> None:
        pass


NOBODY = NoPushObserver()
