"""How many file descriptors are free: what to do without them is decided before they run out."""

from __future__ import annotations

import os
import resource

FOR_CLIENTS = 256  # new clients are taken while so many are free (design)
FOR_HANDOFF = 4  # a hand-over begins only while so many are free (design)


def raise_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


class Descriptors:
    """Counts what the driver opens, on top of what the process has open when it begins: asking the kernel
    each time costs more."""

    def __init__(self, limit: int) -> None:
        """limit: the process may have so many open. A limit below four times FOR_CLIENTS keeps a quarter for
        hand-overs instead."""
        self.limit = limit
        self.opened = 0
        self._for_clients = min(FOR_CLIENTS, limit // 4)
        self.look()

    def look(self) -> None:
        """See what is open now besides `opened`: to be called once all is made that stays open."""
        self._before = sum(1 for _ in os.scandir("/proc/self/fd")) - self.opened

    @property
    def free(self) -> int:
        """So many may be opened yet."""
        return self.limit - self._before - self.opened

    @property
    def for_clients(self) -> bool:
        """Whether a new client may be taken."""
        return self.free >= self._for_clients

    @property
    def shortage(self) -> str:
        """Why no client is taken, in one sentence for who runs this."""
        return (
            f"{self.limit - self.free} of {self.limit} file descriptors are open, and the rest is kept for hand-overs;"
            " raise the limit (RLIMIT_NOFILE) or lower limits.screening"
        )

    @property
    def for_handoff(self) -> bool:
        """Whether a hand-over may begin."""
        return self.free >= FOR_HANDOFF
