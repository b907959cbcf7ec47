"""What a hand-off under way tells the session that it belongs to."""

from __future__ import annotations

from typing import Protocol

from postwarden_sidecar.engine.actions import HandoffOutcome


class HandoffOwner(Protocol):
    """One of the three calls comes, once; the first leaves the client's socket with the hand-off, the others
    give it back."""

    def handoff_done(self) -> None:
        """The client is the MTA's now."""

    def handoff_failed(
        self, outcome: HandoffOutcome, detail: str, *, greeting_ended: bool, unsent: bytes
    ) -> None:
        """The MTA's side is closed. greeting_ended: its 220 was given to the client, all but `unsent`."""

    def client_lost(self) -> None:
        """The client went before the MTA had greeted it."""

    def fail(self) -> None:
        """A defect of ours: end the session."""
