"""A hook of pytest that both suites' conftest imports."""

from __future__ import annotations

import asyncio


def pytest_sessionstart() -> None:
    """Say that the main thread has no event loop. Without it pytest-asyncio, asking Python 3.11 which loop is current before it sets
    its own, makes one that nobody closes; its ResourceWarning fails whichever test runs next."""
    asyncio.set_event_loop(None)
