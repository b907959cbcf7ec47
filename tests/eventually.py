"""Waiting for what another process or task brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return once the condition holds; it is looked at every 10 ms. Raises TimeoutError after timeout
    seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  (there is no event: another process brings it about)
            await asyncio.sleep(0.01)
