"""The pace of accepting under a flood: clients are taken some milliseconds apart and several at a time, and not each as it comes.

A turn of the loop costs what a client costs that is dropped (20 us; docs/performance.md), and where clients come one by one, so fast that
the loop is never idle for long, each would have a turn of its own. Whoever comes to a sidecar that is not flooded is taken at once.

While there is a pace, listening sockets are not watched: the deadline takes what waits there.
"""

from __future__ import annotations

from collections.abc import Callable

from postwarden_sidecar.net.loop import Loop

FLOOD = 1000.0  # clients a second; a busy mail server has some hundred
WANTED = 8  # clients of a turn, whose share of it is a tenth of what each costs then
LONGEST = 0.004  # seconds between two turns, so that nobody waits for what a person or a sender could notice
WINDOW = 0.1  # seconds over which clients are counted


class Rate:
    """How fast clients come. seconds: between two turns that take some; 0: none, for there is no flood. Pure."""

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self._since = now
        self._clients = 0

    def count(self, clients: int, now: float) -> None:
        """So many have come. now: CLOCK_MONOTONIC seconds."""
        self._clients += clients
        passed = now - self._since
        if passed >= WINDOW:
            rate = self._clients / passed
            self.seconds = min(WANTED / rate, LONGEST) if rate >= FLOOD else 0.0
            self._since, self._clients = now, 0


class AcceptPace:
    """take: takes who waits, for which it calls `took`. watch: called when `active` has changed: watch listening sockets or not."""

    def __init__(self, loop: Loop, take: Callable[[], object], watch: Callable[[], None]) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.active = False
        self._loop = loop
        self._rate = Rate(loop.now)
        self._take = take
        self._watch = watch

    def took(self, clients: int) -> None:
        """So many clients were taken."""
        now = self._loop.now
        self._rate.count(clients, now)
        if self._rate.seconds and not self.active:
            self.active = True
            self._watch()
            self._loop.set_deadline(self, now + self._rate.seconds)

    def end(self) -> None:
        """Clients are taken as they come, or not at all."""
        if self.active:
            self.active = False
            self._loop.set_deadline(self, None)
            self._watch()

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def handle_deadline(self) -> None:
        """The next turn."""
        self._take()
        if not self.active:
            return
        if self._rate.seconds:
            self._loop.set_deadline(self, self._loop.now + self._rate.seconds)
        else:
            self.end()

    def fail(self) -> None:
        """A defect in accepting: whoever waits is seen by the listening socket."""
        self.end()
