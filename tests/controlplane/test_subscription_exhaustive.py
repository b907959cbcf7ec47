"""Every order of wishes, messages, answers and reconnections, with a bounded number of messages under way: all states that can be reached.

The random walks in test_subscription.py go deeper; this leaves nothing out.
"""

from __future__ import annotations

import copy
from collections import deque

from controlplane.sidecar_model import UNCHANGED, Wire, is_good
from postwarden_operator.controlplane.subscription import State

MOST_UNDER_WAY = 2
"""Messages in each direction. A third makes hundred times as many states, and meets no new kind of overtaking."""


def key(wire: Wire) -> tuple[object, ...]:
    """What tells two states apart: nonces only by their order, and by whether they are still of use."""
    subscription = wire.subscription
    names: dict[str, int] = {}

    def name(nonce: str) -> int:
        return names.setdefault(nonce, len(names)) if nonce else -1

    sent = subscription._sent
    return (
        wire.sidecar_revision,
        wire.sidecar_complete,
        wire.expected(),
        wire._may_send,
        subscription._revision,
        subscription._version,
        subscription._policy_uid,
        subscription._held,
        tuple(sorted(subscription._unsettled)),
        None
        if sent is None
        else (type(sent.wanted).__name__, revision(sent.wanted), name(sent.nonce), sent.answered, sent.refused),
        tuple(about(message, name) for message in wire._down),
        tuple(about(message, name) for message in wire._inbox),
        tuple((good, name(nonce), text) for good, nonce, text in wire._up),
    )
