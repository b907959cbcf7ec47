"""Every order of wishes, messages, answers, reconnections and restarts, with a bounded number of messages under way.

All states that can be reached are looked at. The random walks in test_subscription.py go deeper; this leaves nothing out.
"""

from __future__ import annotations

import copy
import re
from collections import deque

from controlplane.sidecar_model import UNCHANGED, Wire, is_good
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.controlplane.subscription import State
from postwarden_operator.controlplane.wanted import Managed

MOST_UNDER_WAY = 2
"""Messages of the operator that have no answer yet: one that is stale, and the newest."""


def key(wire: Wire) -> str:
    """What tells two states apart: of nonces only their order."""
    subscription = wire.subscription
    sent = subscription._sent
    wanted = sent.wanted if sent is not None else None
    parts = (
        (wire.sidecar_revision, wire.sidecar_complete, wire.expected(), wire._may_send),
        (subscription._revision, subscription._version, subscription._policy_uid, subscription._held),
        sorted(subscription._unsettled),
        (type(wanted).__name__, wanted.revision if isinstance(wanted, Managed) else ""),
        (sent.nonce, sent.answered, sent.refused) if sent is not None else (),
        [_about(message) for message in wire._down],
        [_about(message) for message in wire._inbox],
        list(wire._up),
    )
    order: dict[str, str] = {}
    return re.sub(r"\bn\d+\b", lambda nonce: order.setdefault(nonce[0], f"#{len(order)}"), repr(parts))


def _about(message: pb.ControlMessage) -> tuple[str, str, str]:
    kind = str(message.WhichOneof("message"))
    return kind, message.snapshot.revision, message.snapshot.nonce or message.unmanaged.nonce


def under_way(wire: Wire) -> int:
    return len(wire._down) + len(wire._inbox) + len(wire._up)


def copied(wire: Wire) -> Wire:
    """By hand, and messages shared: copy.deepcopy takes ten times as long."""
    twin = copy.copy(wire)
    twin._down, twin._inbox, twin._up = deque(wire._down), deque(wire._inbox), deque(wire._up)
    twin.subscription = copy.copy(wire.subscription)
    twin.subscription._unsettled = dict(wire.subscription._unsettled)
    twin.subscription._sent = copy.copy(wire.subscription._sent)
    return twin


def steps(wire: Wire) -> list[tuple[str, str]]:
    """Each that does something now."""
    all_steps = [step for step in dict.fromkeys(wire.possible()) if step != ("settle", "")]
    return [step for step in all_steps if step != ("send", "") or under_way(wire) < MOST_UNDER_WAY]


def check_where_it_ends(wire: Wire) -> None:
    """Once all that is under way has arrived, the newest good wish is in force, and nothing more is sent."""
    wire.settle()
    wire.check_synced_is_true()
    assert wire.messages_due() == 0
    state, expected = wire.subscription.state.state, wire.expected()
    if expected is None or expected is UNCHANGED:
        assert state is State.PENDING
    elif expected == "" or is_good(expected):
        assert (wire.sidecar_revision, state) == (expected, State.SYNCED)
    else:
        assert is_good(wire.sidecar_revision)
        assert state is State.REJECTED


def test_every_state_that_can_be_reached_is_never_synced_too_early_and_ends_with_the_newest_good_rules() -> (
    None
):
    start = Wire()
    seen = {key(start)}
    to_do = deque([start])
    while to_do:
        wire = to_do.popleft()
        for step, revision in steps(wire):
            following = copied(wire)
            following.do(step, revision)
            if (name := key(following)) not in seen:
                seen.add(name)
                following.check_synced_is_true()
                to_do.append(following)
        check_where_it_ends(wire)
    assert len(seen) > 10_000
