"""One stream: what is sent, what is not, and when it counts as synced."""

from controlplane.sidecar_model import UNCHANGED, Wire, is_good, wish
from hypothesis import given, settings
from hypothesis import strategies as st
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.subscription import State, Subscription
from postwarden_operator.controlplane.wanted import Held, Undecided, Unmanaged


def fresh() -> Subscription:
    return Subscription(revision="", version="", complete=True)


def state(subscription: Subscription) -> State:
    return subscription.state.state


def test_nothing_is_sent_before_anything_is_wanted() -> None:
    assert fresh().next_message("n") is None
    assert state(fresh()) is State.PENDING


def test_snapshot_is_sent_once_and_is_synced_by_its_ack_only() -> None:
    subscription = fresh()
    subscription.want(wish("a"))
    assert state(subscription) is State.PENDING
    message = subscription.next_message("n1")
    assert message is not None
    assert (message.snapshot.version, message.snapshot.nonce) == ("a/1", "n1")
    assert subscription.next_message("n2") is None
    assert state(subscription) is State.PENDING
    subscription.receive_ack("n1", "a/1")
    assert state(subscription) is State.SYNCED
    assert subscription.next_message("n3") is None


def test_sidecar_that_has_the_version_is_synced_without_a_message() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("a"))
    assert subscription.next_message("n") is None
    assert state(subscription) is State.SYNCED


def test_incomplete_rules_are_sent_whatever_the_version() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=False)
    subscription.want(wish("a"))
    assert state(subscription) is State.PENDING
    assert subscription.next_message("n") is not None


def test_refusal_by_a_sidecar_with_incomplete_rules_does_not_make_them_complete() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=False)
    subscription.want(wish("a"))
    assert subscription.next_message("n1")
    subscription.want(wish("b"))
    assert subscription.next_message("n2")
    subscription.want(wish("a"))
    # Its newest message made it drop the one before: what is in force is from disk still.
    subscription.receive_nack("n2", "unknown feature", "a/1")
    assert state(subscription) is State.PENDING
    assert subscription.next_message("n3") is not None
    subscription.receive_ack("n3", "a/1")
    assert state(subscription) is State.SYNCED


def test_another_release_of_the_compiler_is_sent_and_the_status_stays_synced_until_then() -> None:
    subscription = Subscription(revision="a", version="a/0", complete=True)
    subscription.want(wish("a"))
    assert state(subscription) is State.SYNCED
    assert subscription.next_message("n") is not None


def test_newer_wish_does_not_wait_for_the_older_ones_answer_and_drops_it() -> None:
    subscription = fresh()
    subscription.want(wish("a"))
    assert subscription.next_message("n1")
    subscription.want(wish("b"))
    assert subscription.next_message("n2")
    subscription.receive_ack("n1", "a/1")
    assert state(subscription) is State.PENDING
    subscription.receive_ack("n2", "b/1")
    assert state(subscription) is State.SYNCED


def test_wish_that_comes_back_while_another_is_under_way_is_sent_again() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("b"))
    assert subscription.next_message("n1")
    subscription.want(wish("a"))
    assert state(subscription) is State.PENDING
    message = subscription.next_message("n2")
    assert message is not None
    assert message.snapshot.version == "a/1"


def test_refused_wish_is_rejected_with_its_reason_and_not_sent_again() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("b"))
    assert subscription.next_message("n1")
    subscription.receive_nack("n1", "unknown feature", "a/1")
    assert (state(subscription), subscription.state.reason) == (State.REJECTED, "unknown feature")
    assert subscription.next_message("n2") is None
    subscription.want(wish("a"))
    assert subscription.next_message("n3") is None
    assert state(subscription) is State.SYNCED


def test_refusal_that_lost_the_rules_in_force_makes_the_next_wish_due() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("b"))
    assert subscription.next_message("n1")
    subscription.receive_nack("n1", "no memory", "")
    subscription.want(wish("a"))
    assert subscription.next_message("n2") is not None


def test_refusal_tells_that_an_earlier_wish_is_in_force_whose_ack_was_stale() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("b"))
    assert subscription.next_message("n1")
    subscription.want(wish("c"))
    assert subscription.next_message("n2")
    subscription.receive_ack("n1", "b/1")
    subscription.receive_nack("n2", "unknown feature", "b/1")
    subscription.want(wish("b"))
    assert subscription.next_message("n3") is None
    assert state(subscription) is State.SYNCED


def test_ack_of_another_version_is_a_rejection_and_no_endless_resending() -> None:
    subscription = fresh()
    subscription.want(wish("a"))
    assert subscription.next_message("n1")
    subscription.receive_ack("n1", "x/9")
    assert state(subscription) is State.REJECTED
    assert "x/9" in subscription.state.reason
    assert subscription.next_message("n2") is None


def test_hold_is_told_once_and_the_rules_in_force_are_not_sent_again_after_it() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(Held("spec.access: bad"))
    message = subscription.next_message("n1")
    assert message is not None
    assert message.hold.reason == "spec.access: bad"
    assert subscription.next_message("n2") is None
    assert (state(subscription), subscription.state.reason) == (State.PENDING, "spec.access: bad")
    subscription.want(wish("a"))
    assert subscription.next_message("n3") is None
    assert state(subscription) is State.SYNCED


def test_nothing_is_said_while_nothing_is_decided_and_what_was_under_way_is_still_answered() -> None:
    subscription = fresh()
    subscription.want(wish("a"))
    assert subscription.next_message("n1") is not None
    subscription.want(Undecided("being compiled"))
    assert subscription.next_message("n2") is None
    subscription.receive_ack("n1", "a/1")
    assert (state(subscription), subscription.state.reason) == (State.PENDING, "being compiled")
    assert subscription.version_in_force == "a/1"
    subscription.want(wish("a"))
    assert subscription.next_message("n3") is None
    assert state(subscription) is State.SYNCED


def test_unmanaged_is_told_even_to_a_sidecar_without_rules_and_makes_it_forget() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(Unmanaged())
    message = subscription.next_message("n1")
    assert message is not None
    assert message.WhichOneof("message") == "unmanaged"
    subscription.receive_ack("n1", "")
    assert state(subscription) is State.SYNCED
    subscription.want(wish("a"))
    assert subscription.next_message("n2") is not None


def test_failed_proof_counts_as_rejected_until_one_succeeds() -> None:
    subscription = Subscription(revision="a", version="a/1", complete=True)
    subscription.want(wish("a"))
    subscription.receive_handoff(pb.HANDOFF_STATE_OPEN_RELAY, "250 for rcpt elsewhere")
    assert state(subscription) is State.REJECTED
    assert subscription.state.open_relay
    assert subscription.state.reason.endswith("250 for rcpt elsewhere")
    subscription.receive_handoff(pb.HANDOFF_STATE_PROVED, "")
    assert state(subscription) is State.SYNCED


def test_only_tables_of_the_snapshot_last_sent_may_be_fetched() -> None:
    subscription = fresh()
    subscription.want(wish("a"))
    assert subscription.blob("blob-a") is None
    subscription.next_message("n1")
    assert subscription.blob("blob-a") == b"a"
    subscription.want(wish("b"))
    subscription.next_message("n2")
    assert (subscription.blob("blob-a"), subscription.blob("blob-b")) == (None, b"b")


@settings(max_examples=300)
@given(st.lists(st.integers(0, 999), min_size=5, max_size=40))
def test_any_order_of_events_ends_with_the_newest_good_rules_and_is_never_synced_too_early(
    choices: list[int],
) -> None:
    wire = Wire()
    for choice in choices:
        possible = wire.possible()
        wire.do(*possible[choice % len(possible)])
        wire.check_synced_is_true()
    wire.settle()
    wire.check_synced_is_true()
    assert wire.messages_due() == 0
    match wire.expected():
        case None:
            assert wire.subscription.state.state is State.PENDING
        case "":
            assert wire.sidecar_revision == ""
            assert wire.subscription.state.state is State.SYNCED
        case held if held is UNCHANGED:
            assert wire.subscription.state.state is State.PENDING
        case revision if is_good(revision):
            assert wire.sidecar_revision == revision
            assert wire.subscription.state.state is State.SYNCED
        case _:
            assert is_good(wire.sidecar_revision)
            assert wire.subscription.state.state is State.REJECTED
