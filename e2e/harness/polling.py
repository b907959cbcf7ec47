"""Waiting for what another program does and nothing announces: a log line, a delivered mail."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

INTERVAL = 0.02
"""Seconds between two looks: small against what is waited for, and no load."""


def poll(look: Callable[[], Result | None], timeout: float, failure: Callable[[], str]) -> Result:
    """The first true value of `look()`, called every `INTERVAL` seconds.

    Raises TimeoutError with `failure()` as its message after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout} s: {failure()}")
        time.sleep(INTERVAL)
