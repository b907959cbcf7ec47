"""Tasks that run beside everything else: held, for the event loop holds them weakly, and heard, where they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)


def keep(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    """Begin it; it is among them until it ends."""
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)
    task.add_done_callback(_say_why_it_failed)


def _say_why_it_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a part of the supervisor failed", exc_info=error)
