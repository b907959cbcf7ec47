"""What the operator wants a pod's sidecar to have in force: the word between reconcile and the streams.

Contract: immutable values. A policy's `Managed` is shared by all of its pods. It speaks the wire's own
messages, so that the control plane needs to know neither policies nor lists.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from postwarden.screening.v1 import screening_pb2 as pb

INLINE_LIMIT = 64 * 1024
"""Bytes of all blobs of a snapshot together, up to which they travel inside it: one chunk of FetchBlob."""

SMALL_BLOB = 4 * 1024
"""Bytes of a blob that travels inside a snapshot also where not all of them do: another question would cost more. Not all that fit, for a
snapshot is sent for a change of any one of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Managed:
    """A policy's rules. `snapshot` lacks its nonce only; `blobs` are all of its tables by hash."""

    snapshot: pb.Snapshot = dataclasses.field(repr=False)
    blobs: Mapping[str, bytes] = dataclasses.field(repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Decides on sending again: whose rules, and their version."""
        return self.snapshot.policy_uid, self.snapshot.version

    @property
    def revision(self) -> str:
        """Decides on the status: the policy's content, whichever release compiled it."""
        return self.snapshot.revision


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """No policy matches the pod."""


@dataclass(frozen=True, slots=True)
class Held:
    """A policy matches, and can't be compiled now: what is in force stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """A policy matches, and is being compiled for the first time: nothing is said to the sidecar until then."""

    reason: str


Wanted = Managed | Unmanaged | Held | Undecided


def same(one: Wanted | None, other: Wanted | None) -> bool:
    """Whether a sidecar would notice no difference."""
    if one is other:
        return True
    if isinstance(one, Managed) and isinstance(other, Managed):
        return one.key == other.key
    return one == other


def managed(snapshot: pb.Snapshot, blobs: Iterable[tuple[str, str, bytes]]) -> Managed:
    """Complete `snapshot` by its blobs (hash, format, data).

    Inside it where they are small, else only named.
    """
    content = {digest: (form, data) for digest, form, data in blobs}
    largest = INLINE_LIMIT if sum(len(data) for _, data in content.values()) <= INLINE_LIMIT else SMALL_BLOB
    room = INLINE_LIMIT
    named: RepeatedCompositeFieldContainer[pb.Blob] = snapshot.blobs
    for digest, (form, data) in sorted(content.items()):
        inline = len(data) <= min(largest, room)
        room -= len(data) if inline else 0
        named.add(hash=digest, format=form, size=len(data), data=data if inline else b"")
    return Managed(snapshot, {digest: data for digest, (_, data) in content.items()})
