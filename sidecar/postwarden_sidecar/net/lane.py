"""What the lanes of a worker have in common: each deals with clients of one kind in the moment of accept, without a session.

A lane decides by an object of the engine that is made of the context in force; whoever it says nothing of gets a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record, Visit
from postwarden_sidecar.net.environment import Environment

Decider = TypeVar("Decider")


class Lane(Generic[Decider]):
    """One of a kind a worker. `begin_batch`, then the lane's own `take` for each client of the batch. decider: None: the context has
    nothing for this lane."""

    def __init__(self, environment: Environment, decider: Callable[[Context], Decider | None]) -> None:
        self._environment = environment
        self._make_decider = decider
        self._context: Context | None = None
        self._decider: Decider | None = None
        self._family = 0
        self._local: tuple[str, int] | None = None
        self._wall = 0.0
        self._template: Record | None = None
        self._after = 0.0
        self._uncounted = 0  # visits of the template that took so long

    def begin_batch(self, family: int, local: tuple[str, int] | None, wall: float) -> None:
        """Clients are about to be accepted, from a socket of this family. local: what they connect to; None if theirs are to be asked.
        wall: epoch seconds."""
        self._family, self._local, self._wall = family, local, wall
        self.renew()

    def renew(self) -> None:
        """Decide by what is in force now; what was before, and its access lists, are let go, whether clients come or not."""
        context = self._environment.host.context()
        if context is not self._context:
            self._context = context
            self._decider = self._make_decider(context)

    def settle(self) -> None:
        """Count what was observed; to be called at the end of each turn, and at the very end."""
        if self._template is not None:
            self._environment.meter.count(self._template, self._after, self._uncounted)
        self._template, self._uncounted = None, 0

    def _observe(self, record: Record) -> None:
        """A client has its verdict."""
        self._environment.meter.count(record, record.duration)
        self._environment.host.record(record)

    def _observe_alike(self, template: Record, visit: Visit) -> None:
        """The same of a visit. It is counted with others of this turn: half a microsecond for each, else."""
        if template is not self._template or visit.after != self._after:
            self.settle()
            self._template, self._after = template, visit.after
        self._uncounted += 1
        self._environment.host.record_alike(template, visit)
