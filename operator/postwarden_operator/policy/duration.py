"""Durations as Kubernetes users write them: `6s`, `1h30m`, `500ms`.

Contract: a subset of Go's notation (no signs, fractions, or units below ms), so that CEL's `duration()` reads all of it.
`format: duration` is not used in the schema: the API server then takes `3 days` and `-5s` (measured).
"""

import re

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"

LONGEST_DURATION_TEXT = 28
"""Characters: four times five digits and two letters."""

_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def milliseconds(duration: str) -> int:
    """The length of a text that matches DURATION_PATTERN, in ms."""
    return sum(int(count) * _UNIT_MS[unit] for count, unit in _PART.findall(duration))
