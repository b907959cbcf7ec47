"""What all replicas of the operator say of the sidecars, merged to one word a pod. Pure.

Contract: each replica tells its whole view first (`begin`, `told`, `completed`), then changes (`told`); `lost` when it is heard no more.
A pod's word is that of the replica which has its stream; of two, the one with the younger stream: a sidecar makes its new stream before
it ends the old one, and a node that vanished leaves a stream that only looks alive. A word outlives its stream by a grace, for what is
in force does not change with the stream: so a sidecar that moves to another replica does not count as disconnected on its way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from postwarden_operator.controlplane.peer_state import PeerState

ENDED_GRACE = 1.0
"""Seconds that a word outlives its stream.

What two replicas tell of a sidecar that moves from one to the other comes in either order; each gathers for less than that.
"""


@dataclass(slots=True)
class _Replica:
    """incoming: the first view while it is not complete; until then the replica's words do not count."""

    words: dict[str, PeerState] = field(default_factory=dict)
    incoming: dict[str, PeerState] | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    word: PeerState
    until: float


class View:
    """lost_grace: seconds that the words of a replica count that is gone, until its sidecars found another."""

    def __init__(self, lost_grace: float) -> None:
        self._lost_grace = lost_grace
        self._replicas: dict[str, _Replica] = {}
        self._ended: dict[str, _Ended] = {}
        self._changed: set[str] = set()
        """Pods whose word may be another than when `take_changes` was called last."""

    def begin(self, replica: str) -> None:
        """It will tell its whole view. What it said before must be `lost` first."""
        self._replicas[replica] = _Replica(incoming={})

    def told(
        self, replica: str, changed: Iterable[tuple[str, PeerState]], gone: Iterable[str], now: float
    ) -> None:
        """States by pod uid, and the pods whose stream there is over."""
        known = self._replicas[replica]
        if known.incoming is not None:
            known.incoming.update(changed)
            for uid in gone:
                known.incoming.pop(uid, None)
            return
        for uid, word in changed:
            known.words[uid] = word
            self._changed.add(uid)
        for uid in gone:
            if (last := known.words.pop(uid, None)) is not None:
                self._end(uid, last, now + ENDED_GRACE)

    def completed(self, replica: str) -> None:
        """That was its whole view; from now on its words count."""
        known = self._replicas[replica]
        if known.incoming is not None:
            known.words, known.incoming = known.incoming, None
            self._changed.update(known.words)

    def lost(self, replica: str, now: float) -> None:
        """It is heard no more: its last words count for the grace. Nothing happens if it is not known."""
        known = self._replicas.pop(replica, None)
        for uid, word in (known.words if known is not None else {}).items():
            self._end(uid, word, now + self._lost_grace)

    def _end(self, uid: str, word: PeerState, until: float) -> None:
        other = self._ended.get(uid)
        if other is None or other.word.since <= word.since:
            self._ended[uid] = _Ended(word, until)
        self._changed.add(uid)

    def word(self, pod_uid: str, now: float) -> PeerState | None:
        """None: no replica has heard of this sidecar lately."""
        live = [known.words[pod_uid] for known in self._replicas.values() if pod_uid in known.words]
        if live:
            return max(live, key=lambda word: word.since)
        ended = self._ended.get(pod_uid)
        return ended.word if ended is not None and now < ended.until else None

    def take_changes(self, now: float) -> tuple[set[str], float | None]:
        """The pods whose word may be another since the last call, told or run out; and when the next one runs out, None: none will."""
        over = [uid for uid, ended in self._ended.items() if now >= ended.until]
        for uid in over:
            del self._ended[uid]
        changed, self._changed = self._changed.union(over), set()
        return changed, min((ended.until for ended in self._ended.values()), default=None)
