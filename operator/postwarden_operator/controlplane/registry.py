"""The live streams by pod, and what each pod is to have.

Contract: used from one event loop. One stream a pod uid: a newer one replaces the older. `set_wanted` wakes
only the streams for which something changed. Knows no gRPC: the server waits on a stream and is told why it
ends.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.controlplane.subscription import State, Subscription, SyncState
from postwarden_operator.controlplane.trust import SidecarTrust, TrustBundle
from postwarden_operator.controlplane.wanted import Held, Managed, Unmanaged, Wanted, same


class StatusSink(Protocol):
    """Told when a pod's state may have changed; it asks the registry for the states when it wants to."""

    def state_changed(self, pod_uid: str) -> None: ...


class End(Enum):
    """Why the operator ends a stream, in words for the sidecar's log."""

    REPLACED = "a newer stream of this pod replaces this one"
    POD_GONE = "the pod is deleted, or no longer labelled for screening"
    SHUTDOWN = "the operator shuts down"
    EXPIRED = "the time of this stream is over: come again, with the token of then"


@dataclass(eq=False)
class Stream:
    """One live stream. `wake` is set when there may be something to send, or when `end` was set; `on_end` is called then, too."""

    identity: Identity
    subscription: Subscription
    trust: SidecarTrust
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    end: End | None = None
    on_end: Callable[[], None] | None = None

    def finish(self, end: End) -> None:
        """The first reason counts."""
        if self.end is None:
            self.end = end
            self.wake.set()
            if self.on_end is not None:
                self.on_end()


class Registry:
    """Not ready until the first `set_wanted`: until then no stream may be served."""

    def __init__(self, sink: StatusSink) -> None:
        self._sink = sink
        self._wanted: Mapping[str, Wanted] = {}
        self._doubt: str | None = None
        self._streams: dict[str, Stream] = {}
        self._bundle: TrustBundle | None = None
        self.ready = False

    def set_wanted(self, wanted: Mapping[str, Wanted], *, doubt: str | None = None) -> None:
        """What every pod is to have, by pod uid.

        The stream of a pod that was in the last one and is not in this ends. doubt: why it can't be relied on now that
        a policy is absent, if so: a sidecar that was not told Unmanaged yet is then told to hold what it has.
        """
        before, self._wanted, self.ready = self._wanted, dict(wanted), True
        self._doubt = doubt
        for uid, stream in list(self._streams.items()):
            now = self._wanted.get(uid)
            if now is None:
                if uid in before:
                    stream.finish(End.POD_GONE)
            elif not same(stream.subscription.wanted, effective := self._effective(now, stream)):
                stream.subscription.want(effective)
                stream.wake.set()
                self._sink.state_changed(uid)

    def set_trust(self, bundle: TrustBundle) -> None:
        """What sidecars are to trust from now on."""
        if bundle == self._bundle:
            return
        self._bundle = bundle
        for uid, stream in self._streams.items():
            stream.trust.want(bundle)
            stream.wake.set()
            self._sink.state_changed(uid)

    @property
    def trust_bundle(self) -> TrustBundle | None:
        """What sidecars, other replicas and the API server are to trust now. None: whoever set the certificate cares for that."""
        return self._bundle

    def subscribe(
        self, identity: Identity, subscription: Subscription, trust_expires: float | None = None
    ) -> Stream:
        """A new stream of this pod. trust_expires: until when it trusts the operator, by its own account.

        An older one ends. A pod not planned for yet waits for the next `set_wanted`.
        """
        stream = Stream(identity, subscription, SidecarTrust(trust_expires))
        if self._bundle is not None:
            stream.trust.want(self._bundle)
            stream.wake.set()
        if older := self._streams.get(identity.pod_uid):
            older.finish(End.REPLACED)
        self._streams[identity.pod_uid] = stream
        if (wanted := self._wanted.get(identity.pod_uid)) is not None:
            subscription.want(self._effective(wanted, stream))
            stream.wake.set()
        self._sink.state_changed(identity.pod_uid)
        return stream

    def _effective(self, wanted: Wanted, stream: Stream) -> Wanted:
        if self._doubt is None or not isinstance(wanted, Unmanaged) or stream.subscription.unmanaged:
            return wanted
        return Held(self._doubt)

    def unsubscribe(self, stream: Stream) -> None:
        """The stream is over. That of a newer stream of the same pod stays."""
        if self._streams.get(stream.identity.pod_uid) is stream:
            del self._streams[stream.identity.pod_uid]
            self._sink.state_changed(stream.identity.pod_uid)

    def answered(self, stream: Stream) -> None:
        """The sidecar said something: its state may be another, and something may be due."""
        stream.wake.set()
        if self._streams.get(stream.identity.pod_uid) is stream:
            self._sink.state_changed(stream.identity.pod_uid)

    def subscription(self, pod_uid: str) -> Subscription | None:
        """None: no live stream."""
        stream = self._streams.get(pod_uid)
        return None if stream is None else stream.subscription

    def state(self, pod_uid: str) -> SyncState | None:
        """None: no live stream. One that would miss the change of the CA is not synced."""
        stream = self._streams.get(pod_uid)
        if stream is None:
            return None
        state = stream.subscription.state
        if state.state is State.SYNCED and (stale := stream.trust.stale):
            return replace(state, state=State.PENDING, reason=stale)
        return state

    def counts(self) -> Counter[State]:
        """The sidecars that have a policy and a stream, by state. Any thread may ask."""
        screened = [uid for uid in tuple(self._streams) if isinstance(self._wanted.get(uid), Managed | Held)]
        states = (self.state(uid) for uid in screened)
        return Counter(each.state for each in states if each is not None)

    def blob(self, pod_uid: str, digest: str) -> bytes | None:
        """A table of the snapshot last sent to that pod, else None."""
        subscription = self.subscription(pod_uid)
        return None if subscription is None else subscription.blob(digest)

    def finish_all(self) -> None:
        """End every stream: the operator shuts down."""
        for stream in self._streams.values():
            stream.finish(End.SHUTDOWN)
