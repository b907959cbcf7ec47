"""One connection, without I/O: from the first byte to hand-off or close.

The driver calls `receive_*`, `handle_timer` and `shut_down`, then takes actions by `next_action` until it gets None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from postwarden_sidecar.engine.actions import EngineAction, HandoffOutcome, Interest
from postwarden_sidecar.engine.context import Context


class Connection:
    """A client's connection. now: CLOCK_MONOTONIC seconds of the call; wall: epoch seconds of the moment it began.

    interest: what the driver is to watch for. stage: one of ipc.page.STAGES ("screening", "dialog", "handoff").
    """

    __slots__ = ("_actions", "interest", "stage")

    def __init__(
        self,
        context: Context,
        peer_address: str,
        peer_port: int,
        local_address: str,
        local_port: int,
        now: float,
        wall: float,
    ) -> None:
        self.interest = Interest.PEEK
        self.stage = "screening"
        self._actions: deque[EngineAction] = deque()

    def receive_peek(self, data: bytes, now: float) -> int:
        """What waits in the client's socket (recv with MSG_PEEK). Returns how many bytes the driver must now discard by recv; not 0: peek again."""
        return 0

    def receive_bytes(self, data: bytes, now: float) -> None:
        """What was read from the client's socket."""

    def receive_eof(self, now: float) -> None:
        """The client sent FIN."""

    def connection_lost(self, now: float) -> None:
        """The client reset the connection, or sending failed."""

    def receive_pass(self, expiries: Mapping[str, float], now: float) -> None:
        """The answer to LookupPass: test -> epoch seconds; {}: unknown, or no answer in time."""

    def receive_handoff(
        self, outcome: HandoffOutcome, detail: str, now: float, *, greeting_ended: bool
    ) -> None:
        """The end of HandOff. greeting_ended: the MTA's 220 reached the client."""

    def shut_down(self, now: float) -> None:
        """Draining: whoever is in screening or in our dialogue gets 421 4.3.2."""

    def next_deadline(self) -> float | None:
        """When to call handle_timer (CLOCK_MONOTONIC seconds); None: the driver's own deadlines hold (hand-off), or all is over."""
        return None

    def handle_timer(self, now: float) -> None:
        """The deadline is reached; called early or late, it does no harm."""

    def next_action(self) -> EngineAction | None:
        """The next thing to do, or None."""
        return self._actions.popleft() if self._actions else None
