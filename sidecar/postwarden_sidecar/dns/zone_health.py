"""Whether a zone's listings may be believed, and for how long a probe says so.

A zone that lists 127.0.0.1 lists the world: its domain was given up, or a resolver makes answers up (RFC 5782, section 5). Probes are
made on demand: idle pods ask nobody.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

GOOD_FOR = 60.0  # seconds that a good probe lets hits count (design)
BAD_FOR = (
    10.0  # seconds until the next hit may start another one, so that a zone is back soon after it is well
)


class ZoneState(enum.StrEnum):
    """How a zone is doing."""

    HEALTHY = "Healthy"
    BLOCKED = "Blocked"  # it refuses our resolver
    UNREACHABLE = "Unreachable"  # no answer, or none that makes sense
    LISTS_WORLD = "ListsWorld"


@dataclass(frozen=True, slots=True)
class Probe:
    """at: CLOCK_MONOTONIC seconds."""

    state: ZoneState
    at: float

    def holds(self, now: float) -> bool:
        """Nothing newer is needed."""
        return now - self.at < (GOOD_FOR if self.state is ZoneState.HEALTHY else BAD_FOR)
