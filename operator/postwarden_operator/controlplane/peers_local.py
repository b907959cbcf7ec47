"""What this replica knows of its own sidecars, and a feed of it for each one that follows.

Contract: the registry's StatusSink; `own` is told of each change at once. A Feed holds which pods are to be told, not what: it tells
their state at the moment of telling, so a slow reader costs a name a pod, and gets the newest. Used from one event loop.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from postwarden_operator.controlplane.peer_state import PeerState, peer_state
from postwarden_operator.controlplane.subscription import Subscription, SyncState


class Feed:
    """`wake` is set while there is something to tell."""

    def __init__(self, states: dict[str, PeerState]) -> None:
        self._states = states
        # A dict for its order: who waits longest is told first.
        self._due = dict.fromkeys(states)
        self.wake = asyncio.Event()
        self.closed = False

    def changed(self, pod_uid: str) -> None:
        self._due[pod_uid] = None
        self.wake.set()

    def close(self) -> None:
        self.closed = True
        self.wake.set()

    def take(self, most: int) -> tuple[list[tuple[str, PeerState]], list[str]]:
        """At most so many pods: those with a stream and those without. Empty: all is told."""
        taken = list(self._due)[:most]
        for uid in taken:
            del self._due[uid]
        if not self._due:
            self.wake.clear()
        return (
            [(uid, self._states[uid]) for uid in taken if uid in self._states],
            [uid for uid in taken if uid not in self._states],
        )


class Streams(Protocol):
    """What the registry knows of a pod's live stream; None: there is none."""

    def subscription(self, pod_uid: str) -> Subscription | None: ...

    def state(self, pod_uid: str) -> SyncState | None: ...


class LocalStates:
    """streams: the registry. own: told of a pod's new state; None: its stream is over. clock: epoch seconds."""

    def __init__(
        self,
        streams: Callable[[], Streams],
        own: Callable[[str, PeerState | None], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._streams = streams
        self._own = own
        self._clock = clock
        self._began: dict[str, tuple[Subscription, float]] = {}
        self._states: dict[str, PeerState] = {}
        self._feeds: set[Feed] = set()
        self._closed = False

    def state_changed(self, pod_uid: str) -> None:
        """The StatusSink: most calls change nothing that is told."""
        if self._closed:
            return
        state = self._state(pod_uid)
        if state == self._states.get(pod_uid):
            return
        if state is None:
            del self._states[pod_uid]
        else:
            self._states[pod_uid] = state
        self._own(pod_uid, state)
        for feed in self._feeds:
            feed.changed(pod_uid)

    def _state(self, pod_uid: str) -> PeerState | None:
        subscription, sync = self._streams().subscription(pod_uid), self._streams().state(pod_uid)
        if subscription is None or sync is None:
            self._began.pop(pod_uid, None)
            return None
        known = self._began.get(pod_uid)
        if known is None or known[0] is not subscription:
            known = self._began[pod_uid] = subscription, self._clock()
        return peer_state(subscription.wanted, sync, known[1])

    def follow(self) -> Feed:
        """All that is known, then what changes. To be given to `leave`."""
        feed = Feed(self._states)
        if self._closed:
            feed.close()
        self._feeds.add(feed)
        return feed

    def leave(self, feed: Feed) -> None:
        self._feeds.discard(feed)

    def close(self) -> None:
        """The replica shuts down: its streams will end, which says nothing of the sidecars. Ends all feeds."""
        self._closed = True
        for feed in self._feeds:
            feed.close()
