"""Asking a sidecar's admin endpoint, however it is reached.

Contract: whoever opens the way (`Opener`) says why it can't be opened; here is only what is said over it. What can't be asked is one
sentence.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

PORT = 10028  # of the endpoint, on a sidecar's loopback
ANSWER_TIMEOUT = 10.0  # seconds for an answer; /rules of a large list takes some hundred milliseconds
SILENCE = 35.0  # seconds without a line after which a tail is dead: three heartbeats of the endpoint
_LONGEST_LINE = 1 << 20  # bytes; a record's line has 64 KiB at most, the rules' more, and is read as a whole

Query = Mapping[str, Sequence[str]]


class Unanswered(Exception):
    """Not now; the text says why, in one sentence."""


class NoEndpoint(Unanswered):
    """The sidecar runs and nothing listens on that port."""


class Refused(Exception):
    """Not now and not later: a right is missing, or the question is no good. The text says which, in one sentence."""


Opener = Callable[[], AbstractAsyncContextManager[aiohttp.ClientSession]]
"""The way to one sidecar. Entering or using it raises Unanswered or Refused, where it can say more than that it did not work."""


def on_this_machine(host: str, port: int) -> Opener:
    """The way to a sidecar that runs here."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[aiohttp.ClientSession]:
        shown = f"[{host}]" if ":" in host else host
        try:
            async with aiohttp.ClientSession(f"http://{shown}:{port}") as session:
                yield session
        except aiohttp.ClientConnectorError as error:
            raise NoEndpoint(
                f"nobody answers on {shown}:{port}; is the sidecar started with --admin {shown}:{port}?"
            ) from error

    return opened


async def ask(way: Opener, path: str, query: Query | None = None) -> dict[str, Any]:
    """The answer. Raises Unanswered, Refused."""
    try:
        async with way() as session:
            timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)
            async with session.get(path, params=_pairs(query), timeout=timeout) as response:
                text = await response.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unanswered(f"its admin endpoint does not answer: {_why(error)}") from error
    return _judged(response.status, text)


async def follow(way: Opener, path: str, query: Query | None = None) -> AsyncGenerator[dict[str, Any], None]:
    """Line by line, until the sidecar ends it. Raises Unanswered, Refused."""
    try:
        async with way() as session:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_TIMEOUT, sock_read=SILENCE)
            async with session.get(
                path, params=_pairs(query), timeout=timeout, read_bufsize=_LONGEST_LINE
            ) as response:
                if response.status != 200:
                    _judged(response.status, await response.text())
                async for line in response.content:
                    yield _parsed(line.decode(errors="replace"))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise Unanswered(f"the connection to its admin endpoint ended: {_why(error)}") from error


def _judged(status: int, text: str) -> dict[str, Any]:
    if status == 404:
        raise NoEndpoint("what answers on that port is no admin endpoint of a sidecar")
    answer = _parsed(text)
    if status == 200:
        return answer
    said = str(answer.get("error", f"it answers {status}"))
    raise Refused(said) if status < 500 else Unanswered(said)


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoEndpoint("what answers on that port is no admin endpoint of a sidecar")
    return found


def _pairs(query: Query | None) -> list[tuple[str, str]]:
    return [(name, value) for name, values in (query or {}).items() for value in values]


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
