"""The merged view of all replicas: whose word counts for a pod, and for how long."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.peer_state import PeerState, from_wire, to_wire
from postwarden_operator.controlplane.peers_view import ENDED_GRACE, View
from postwarden_operator.controlplane.subscription import State, SyncState, ZoneReport

LOST_GRACE = 30.0


def word(since: float, revision: str = "a", state: State = State.SYNCED) -> PeerState:
    return PeerState("uid", revision, SyncState(state), since)


def view_of(**replicas: dict[str, PeerState]) -> View:
    view = View(LOST_GRACE)
    for replica, words in replicas.items():
        view.begin(replica)
        view.told(replica, words.items(), (), 0.0)
        view.completed(replica)
    return view


def test_each_replica_is_believed_for_its_own_sidecars() -> None:
    view = view_of(a={"p1": word(1)}, b={"p2": word(2)})
    assert (view.word("p1", 5.0), view.word("p2", 5.0), view.word("p3", 5.0)) == (word(1), word(2), None)


def test_younger_of_two_streams_counts() -> None:
    view = view_of(a={"p": word(5, "new")}, b={"p": word(4, "old")})
    assert view.word("p", 9.0) == word(5, "new")


def test_view_that_is_not_whole_yet_says_nothing() -> None:
    view = View(LOST_GRACE)
    view.begin("a")
    view.told("a", [("p", word(1))], (), 0.0)
    assert view.word("p", 0.0) is None
    view.completed("a")
    assert view.word("p", 0.0) == word(1)


def test_word_outlives_its_stream_by_a_moment() -> None:
    view = view_of(a={"p": word(1)})
    view.told("a", (), ["p"], 10.0)
    assert view.word("p", 10.0) == word(1)
    assert view.take_changes(10.0)[1] == 10.0 + ENDED_GRACE
    assert view.word("p", 10.0 + ENDED_GRACE) is None
    assert view.take_changes(10.0 + ENDED_GRACE)[1] is None


@pytest.mark.parametrize("gone_first", [True, False])
def test_sidecar_that_moves_to_another_replica_is_never_away(gone_first: bool) -> None:
    view = view_of(a={"p": word(1)}, b={})
    told = [("a", [], ["p"]), ("b", [("p", word(2))], [])]
    for replica, changed, gone in told if gone_first else reversed(told):
        view.told(replica, changed, gone, 10.0)
        assert view.word("p", 10.0) is not None
    assert view.word("p", 100.0) == word(2)


def test_last_words_of_a_lost_replica_count_until_its_sidecars_had_time_to_find_another() -> None:
    view = view_of(a={"p1": word(1), "p2": word(2)}, b={})
    view.lost("a", 10.0)
    assert view.word("p1", 10.0 + LOST_GRACE - 1) == word(1)
    view.told("b", [("p1", word(11, "new", State.PENDING))], (), 12.0)
    assert view.word("p1", 12.0) == word(11, "new", State.PENDING)
    assert view.word("p2", 10.0 + LOST_GRACE) is None


def test_replica_that_comes_back_is_as_it_says_now() -> None:
    view = view_of(a={"p1": word(1), "p2": word(2)})
    view.lost("a", 10.0)
    view.begin("a")
    view.told("a", [("p1", word(1, "new"))], (), 11.0)
    assert view.word("p1", 11.0) == word(1)
    view.completed("a")
    assert view.word("p1", 11.0) == word(1, "new")
    assert view.word("p2", 10.0 + LOST_GRACE) is None


def test_what_is_lost_twice_or_was_never_known_changes_nothing() -> None:
    view = view_of(a={"p": word(1)})
    view.lost("nobody", 5.0)
    view.lost("a", 10.0)
    view.lost("a", 20.0)
    assert view.word("p", 10.0 + LOST_GRACE) is None


@dataclass
class Source:
    """A replica: the truth there, and what it has told that did not arrive yet, in order."""

    streams: dict[str, PeerState] = field(default_factory=dict)
    told: deque[tuple[str, object]] = field(default_factory=deque)

    def tell_all(self) -> None:
        self.told.clear()
        self.told.append(("begin", None))
        self.told.extend(("changed", each) for each in self.streams.items())
        self.told.append(("completed", None))


class Replicas:
    """Replicas with streams, and a View that hears of them in any order across replicas."""

    def __init__(self, count: int) -> None:
        self.view = View(LOST_GRACE)
        self.now = 0.0
        self.streams = 0
        self.sources = {f"r{number}": Source() for number in range(count)}
        for source in self.sources.values():
            source.tell_all()

    def connect(self, pod: str, replica: str, revision: str, state: State) -> None:
        """A new stream; the older one may live on for a while."""
        self.streams += 1
        self.say(pod, replica, word(self.streams, revision, state))

    def say(self, pod: str, replica: str, says: PeerState) -> None:
        source = self.sources[replica]
        source.streams[pod] = says
        source.told.append(("changed", (pod, says)))

    def change(self, pod: str, replica: str, revision: str, state: State) -> None:
        if (old := self.sources[replica].streams.get(pod)) is not None:
            self.say(pod, replica, word(old.since, revision, state))

    def disconnect(self, pod: str, replica: str) -> None:
        if self.sources[replica].streams.pop(pod, None) is not None:
            self.sources[replica].told.append(("gone", pod))

    def hang_up(self, replica: str) -> None:
        """The watch breaks, and begins anew."""
        self.view.lost(replica, self.now)
        self.sources[replica].tell_all()

    def deliver(self, replica: str) -> None:
        if not self.sources[replica].told:
            return
        kind, what = self.sources[replica].told.popleft()
        match kind, what:
            case "begin", _:
                self.view.begin(replica)
            case "completed", _:
                self.view.completed(replica)
            case "changed", (str() as pod, PeerState() as says):
                self.view.told(replica, [(pod, says)], (), self.now)
            case "gone", str() as pod:
                self.view.told(replica, (), [pod], self.now)

    def truth(self, pod: str) -> PeerState | None:
        streams = [source.streams[pod] for source in self.sources.values() if pod in source.streams]
        return max(streams, key=lambda each: each.since, default=None)


PODS, REPLICAS = ["p0", "p1", "p2"], ["r0", "r1", "r2"]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["connect", "change", "disconnect", "hang up", "wait", *["deliver"] * 4]),
            st.sampled_from(PODS),
            st.sampled_from(REPLICAS),
            st.sampled_from(["a", "b"]),
            st.sampled_from([State.SYNCED, State.PENDING, State.REJECTED]),
        ),
        max_size=80,
    )
)
def test_any_order_of_what_replicas_tell_ends_with_the_truth(
    script: list[tuple[str, str, str, str, State]],
) -> None:
    replicas = Replicas(len(REPLICAS))
    known: dict[str, PeerState | None] = dict.fromkeys(PODS)
    for action, pod, replica, revision, state in script:
        changed, _ = replicas.view.take_changes(replicas.now)
        before, known = known, {pod: replicas.view.word(pod, replicas.now) for pod in PODS}
        assert {pod for pod in PODS if known[pod] != before[pod]} <= changed
        match action:
            case "connect":
                replicas.connect(pod, replica, revision, state)
            case "change":
                replicas.change(pod, replica, revision, state)
            case "disconnect":
                replicas.disconnect(pod, replica)
            case "hang up":
                replicas.hang_up(replica)
            case "deliver":
                replicas.deliver(replica)
            case _:
                replicas.now += 0.7
    for replica in REPLICAS:
        while replicas.sources[replica].told:
            replicas.deliver(replica)
    for pod in PODS:
        if (truth := replicas.truth(pod)) is not None:
            assert replicas.view.word(pod, replicas.now) == truth
        assert replicas.view.word(pod, replicas.now + LOST_GRACE) == truth
    assert replicas.view.take_changes(replicas.now + LOST_GRACE)[1] is None


def test_what_goes_over_the_wire_comes_back_the_same() -> None:
    zones = (ZoneReport("zen.example.org", "Blocked", "127.255.255.254"),)
    sync = SyncState(
        State.REJECTED,
        "it relays",
        unproved=True,
        open_relay=True,
        zones=zones,
        lost_address="99 % come from 10.0.0.1",
        unsteered="one serves all",
    )
    says = PeerState("uid", "a", sync, 1234.5)
    message = to_wire("p", says)
    assert (message.pod_uid, from_wire(pb.PeerState.FromString(message.SerializeToString()))) == ("p", says)


def test_state_that_only_a_newer_release_knows_is_not_synced() -> None:
    message = to_wire("p", word(1))
    message.state = 99  # type: ignore[assignment]  # a newer .proto's
    assert from_wire(message).sync.state is State.PENDING
