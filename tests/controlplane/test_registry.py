"""What streams are told when it is in doubt that no policy matches."""

import pytest
from controlplane.sidecar_model import wish
from postwarden_operator.controlplane.identity import Identity
from postwarden_operator.controlplane.registry import Registry, Stream
from postwarden_operator.controlplane.subscription import State, Subscription
from postwarden_operator.controlplane.wanted import Unmanaged

DOUBT = "the API server was not heard"


class Changes:
    """A StatusSink."""

    def __init__(self) -> None:
        self.pods: list[str] = []

    def state_changed(self, pod_uid: str) -> None:
        self.pods.append(pod_uid)


@pytest.fixture
def registry() -> Registry:
    return Registry(Changes())


def connect(registry: Registry, version: str = "") -> Stream:
    """version: that it has in force."""
    subscription = Subscription(revision=version.partition("/")[0], version=version, complete=True)
    return registry.subscribe(Identity("pod", "mail", "mta-0"), subscription)


def told(stream: Stream) -> str | None:
    """The kind of the message that is due."""
    message = stream.subscription.next_message("n")
    return None if message is None else message.WhichOneof("message")


def test_sidecar_with_rules_is_told_to_hold_them_and_unmanaged_only_without_a_doubt(
    registry: Registry,
) -> None:
    stream = connect(registry, "a/1")
    registry.set_wanted({"pod": Unmanaged()}, doubt=DOUBT)
    assert told(stream) == "hold"
    assert (stream.subscription.state.state, stream.subscription.state.reason) == (State.PENDING, DOUBT)
    registry.set_wanted({"pod": Unmanaged()}, doubt=DOUBT)
    assert told(stream) is None
    stream.wake.clear()
    registry.set_wanted({"pod": Unmanaged()})
    assert stream.wake.is_set()
    assert told(stream) == "unmanaged"


def test_sidecar_that_comes_while_there_is_a_doubt_is_told_to_hold(registry: Registry) -> None:
    registry.set_wanted({"pod": Unmanaged()}, doubt=DOUBT)
    assert told(connect(registry, "a/1")) == "hold"


def test_sidecar_that_was_told_unmanaged_stays_so(registry: Registry) -> None:
    registry.set_wanted({"pod": Unmanaged()})
    stream = connect(registry)
    assert told(stream) == "unmanaged"
    stream.subscription.receive_ack("n", "")
    registry.set_wanted({"pod": Unmanaged()}, doubt=DOUBT)
    assert told(stream) is None
    assert stream.subscription.state.state is State.SYNCED


def test_rules_are_sent_whatever_the_doubt(registry: Registry) -> None:
    registry.set_wanted({"pod": wish("a")}, doubt=DOUBT)
    assert told(connect(registry)) == "snapshot"


def test_wish_that_did_not_change_wakes_no_stream(registry: Registry) -> None:
    registry.set_wanted({"pod": wish("a")})
    stream = connect(registry, "a/1")
    stream.wake.clear()
    registry.set_wanted({"pod": wish("a")})
    assert not stream.wake.is_set()
    assert told(stream) is None


def test_sidecars_are_counted_by_state_where_a_policy_matches(registry: Registry) -> None:
    assert not registry.counts()
    connect(registry, "a/1")
    registry.set_wanted({"pod": wish("a"), "other": wish("a")})
    assert registry.counts() == {State.SYNCED: 1}
    registry.set_wanted({"pod": wish("b"), "other": wish("a")})
    assert registry.counts() == {State.PENDING: 1}
    registry.set_wanted({"pod": Unmanaged(), "other": wish("a")})
    assert not registry.counts()
