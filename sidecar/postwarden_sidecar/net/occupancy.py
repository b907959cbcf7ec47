"""How full the pod is: what limits and stress mode are decided by.

A worker counts its own connections in its slot of the page; sums over all slots are the pod's. Connections of
one client are counted here alone, for steering brings all connections of a client to one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from postwarden_sidecar.engine.actions import Load
from postwarden_sidecar.ipc.page import CELLS, SCREENING, STRESS, UPSTREAM, Page
from postwarden_sidecar.net.unoffered import NOTHING, Unoffered
from postwarden_sidecar.rules.settings import Limits

_SCREENING, _UPSTREAM, _STRESS = CELLS[SCREENING], CELLS[UPSTREAM], CELLS[STRESS]


class Occupancy:
    """One a worker. cells: its slot of the page. announce(on, connections): called by the worker that saw stress begin or end."""

    def __init__(self, page: Page, cells: memoryview, announce: Callable[[bool, int], None]) -> None:
        self.cells = cells
        self.clients: dict[str, int] = {}  # connections by client; ours alone
        self.unoffered = Unoffered()
        self._screening, self._upstream = page.column(SCREENING), page.column(UPSTREAM)
        self._decisions = page.column(STRESS)
        self._announce = announce
        # In other workers' hands and stress, as last looked at; only in the turn in which that was.
        self._known = False
        self._screening_elsewhere = 0
        self._upstream_elsewhere = 0
        self._stressed = False

    def arrive(self, limits: Limits | None) -> Presence:
        """A connection was accepted. limits: of the rules that it is decided by; None: no rules."""
        return Presence(self, limits)

    def look_around(self) -> None:
        """Before a batch of clients: how full the others are. They go on meanwhile, for a millisecond or two."""
        cells = self.cells
        self._screening_elsewhere = sum(self._screening) - cells[_SCREENING]
        self._upstream_elsewhere = sum(self._upstream) - cells[_UPSTREAM]
        self._stressed = self._stress
        self._known = True

    def unmoved(self, limits: Limits, client: str) -> bool:
        """Whether a client of this batch that is gone at once meets no limit and begins no stress, so that it need not be counted."""
        cells = self.cells
        if 0 < limits.connections_per_client <= self.clients.get(client, 0):
            return False
        if 0 < limits.upstream <= self._upstream_elsewhere + cells[_UPSTREAM]:
            return False
        return self._stressed or not _begins(limits, self._screening_elsewhere + cells[_SCREENING] + 1)

    def load(self, limits: Limits | None, client: str) -> Load:
        """As it is now, for a client of a batch as `look_around` saw the others; stress may begin by that."""
        if not self._known:
            self.look_around()
            self._known = False
        screening = self._screening_elsewhere + self.cells[_SCREENING]
        if limits is not None and not self._stressed and _begins(limits, screening):
            self._stressed = self._change(True, screening)
        return Load(
            self.clients.get(client, 1),
            screening,
            self._upstream_elsewhere + self.cells[_UPSTREAM],
            self._stressed,
            self.unoffered.to(client),
        )

    def pass_on(self, client: str) -> None:
        """A client (address, cut to limits.prefix_*) went to the MTA at once, and counts until `passed_on`."""
        self.cells[_UPSTREAM] += 1
        self.count(client, 1)

    def passed_on(self, client: str) -> None:
        """The MTA has taken it."""
        self.cells[_UPSTREAM] -= 1
        self.count(client, -1)

    def count(self, client: str, change: int) -> None:
        """Connections of this client that come or go."""
        left = self.clients.get(client, 0) + change
        if left > 0:
            self.clients[client] = left
        else:
            self.clients.pop(client, None)

    def settle(self, limits: Limits | None) -> None:
        """Once a turn: stress ends when enough connections have left, or when no limit is left to be near to."""
        self._known = False
        if self._stress:
            screening = sum(self._screening)
            if limits is None or _ends(limits, screening):
                self._change(False, screening)

    @property
    def _stress(self) -> bool:
        """What was decided last, by whichever worker."""
        return bool(max(self._decisions) & 1)

    def _change(self, on: bool, screening: int) -> bool:
        self.cells[_STRESS] = time.monotonic_ns() * 2 + on
        self._announce(on, screening)
        return on


def _begins(limits: Limits, screening: int) -> bool:
    """The mark is rounded down, as postscreen does (measured), but nobody there is never stress."""
    return limits.screening > 0 and screening >= max(1, limits.screening * limits.stress_enter // 100)


def _ends(limits: Limits, screening: int) -> bool:
    if limits.screening == 0:
        return True
    return screening <= limits.screening * limits.stress_leave // 100 and not _begins(limits, screening)


class Presence:
    """One connection, as it is counted: in our hands, then waiting for the MTA's first byte, then not at all."""

    __slots__ = ("_cell", "_client", "_limits", "_occupancy")

    def __init__(self, occupancy: Occupancy, limits: Limits | None) -> None:
        self._occupancy = occupancy
        self._limits = limits
        self._client: str | None = None
        self._cell: int | None = _SCREENING
        occupancy.cells[_SCREENING] += 1

    def load(self, client: str) -> Load:
        """How busy the pod is. The client is known now, and counted once, however often this is asked.

        client: its address, cut to limits.prefix_*."""
        if self._client != client:
            self._client = client
            self._occupancy.count(client, 1)
        return self._occupancy.load(self._limits, client)

    def __call__(self, client: str) -> Load:
        """The same: a bound method would be an object more for each client that waits."""
        return self.load(client)

    @property
    def unoffered(self) -> frozenset[str]:
        """What the MTA does not offer to this client; as it is now."""
        return NOTHING if self._client is None else self._occupancy.unoffered.to(self._client)

    def told(self, offered: Set[str], given: Set[str]) -> None:
        """The MTA has told this client what it offers: given; our dialogue had offered it these."""
        if self._client is not None:
            self._occupancy.unoffered.note(self._client, offered, given)

    def hand_over(self) -> None:
        """The MTA is to get the client."""
        self._move(_UPSTREAM)

    def take_back(self) -> None:
        """The hand-over failed: the client is in our hands again."""
        self._move(_SCREENING)

    def end(self) -> None:
        """The MTA has spoken to the client (Pass: has taken it), or the connection is over. Safe to call again."""
        self._move(None)

    def _move(self, cell: int | None) -> None:
        occupancy, before = self._occupancy, self._cell
        if before == cell:
            return
        self._cell = cell
        if before is not None:
            occupancy.cells[before] -= 1
        if cell is not None:
            occupancy.cells[cell] += 1
        if self._client is not None and (before is None or cell is None):
            occupancy.count(self._client, 1 if before is None else -1)
