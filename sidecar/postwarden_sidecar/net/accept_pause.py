"""A pause of accepting: clients wait in the listening sockets' queues until descriptors or memory are free.

A listening socket that is left alone does not wake the loop: it is watched again after a time, whatever the rest of the worker does, a
drain too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from postwarden_sidecar.net.loop import Loop

PACE = 1.0  # seconds between two warnings, however many pauses there are

# Of accept(2): this one client is gone, or its network is; the next one may be there. After any other error the queue is as it was, so
# that another try now would meet it again.
CLIENT_GONE = frozenset(
    (
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    )
)


class AcceptPause:
    """seconds: how long one lasts. resume: called at its end. warn: called with the reason, at most once in PACE seconds."""

    def __init__(
        self, loop: Loop, seconds: float, resume: Callable[[], None], warn: Callable[[str], None]
    ) -> None:
        self.deadline: float | None = None
        self.queued_at: float | None = None
        self.active = False
        self._loop = loop
        self._seconds = seconds
        self._resume = resume
        self._warn = warn
        self._warn_at = 0.0

    def begin(self, why: str) -> None:
        """Watch no listening socket for a while. why: one sentence."""
        self.active = True
        now = self._loop.now
        self._loop.set_deadline(self, now + self._seconds)
        if now >= self._warn_at:
            self._warn_at = now + PACE
            self._warn(why)

    def end(self) -> None:
        """No more pauses: nothing is accepted any more."""
        self.active = False
        self._loop.set_deadline(self, None)

    def handle_events(self, fd: int, events: int) -> None:
        """It owns no descriptor."""

    def handle_deadline(self) -> None:
        """Try again."""
        self.active = False
        self._resume()

    def fail(self) -> None:
        """The listening socket can't be watched again yet: that takes memory of the kernel's, too."""
        self.begin("the listening socket cannot be watched")
