"""Many sidecars followed at once: one that goes is let go, one that comes is joined, a connection that breaks is made again.

Contract: knows neither Kubernetes nor the screen. `targets` says again and again who is to be followed; verdicts go to `show`, sentences on
what does not work to `complain`, each once until it has changed. Ends with Refused where following has no sense, and with whatever `show`
raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from postwarden_cli.admin_client import NoEndpoint, Opener, Query, Unanswered, follow
from postwarden_cli.verdict_lines import CONTROL

FIRST_RETRY, LARGEST_RETRY = 0.5, 15.0  # seconds before a connection is tried again, doubling
TRIES = (
    4  # of a target without an endpoint, in some 4 s: a container that has just been started listens by then
)

STARTING = "the sidecar does not answer now; it is waited for"

Show = Callable[[str, Mapping[str, Any]], None]
Complain = Callable[[str, str], None]


class Followers:
    """`run` until it is cancelled."""

    def __init__(self, query: Query, show: Show, complain: Complain) -> None:
        """query: the filter. show: a target's name and a line. complain: a target's name ("": of none) and a sentence; an empty
        sentence: it is followed now."""
        self._query = query
        self._show = show
        self._complain = complain
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._said: dict[str, str] = {}
        self._refused: dict[str, int] = {}  # how often a target had no endpoint, since it had one
        self._joined: set[str] = set()  # that were, once
        self._given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, targets: AsyncIterator[Mapping[str, Opener]]) -> None:
        """targets: all that are to be followed, again at each change. Raises Refused;
        NoEndpoint where none of the first targets has an endpoint. Returns where targets end and all is over."""
        reading = asyncio.create_task(self._read(targets))
        try:
            await asyncio.wait({reading, self._given_up}, return_when=asyncio.FIRST_COMPLETED)
            if self._given_up.done():
                self._given_up.result()
            await reading
        finally:
            reading.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(reading, *self._tasks.values(), return_exceptions=True)
            self._given_up.cancel()

    async def _read(self, targets: AsyncIterator[Mapping[str, Opener]]) -> None:
        async for wanted in targets:
            for name in self._tasks.keys() - wanted.keys():
                self._tasks.pop(name).cancel()
                self._said.pop(name, None)
                self._refused.pop(name, None)
                self._joined.discard(name)
                self._complain(name, "it is gone")
            for name in wanted.keys() - self._tasks.keys():
                self._tasks[name] = asyncio.create_task(self._follow(name, wanted[name]))
        await asyncio.gather(*self._tasks.values())

    async def _follow(self, name: str, way: Opener) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                async with aclosing(follow(way, "/tail", self._query)) as lines:
                    async for line in lines:
                        delay = FIRST_RETRY
                        self._take(name, line)
                sentence = "the sidecar ended the connection"
            except NoEndpoint as problem:
                self._has_none(name, problem)
                told = STARTING if name in self._joined else str(problem)
                # One that may be starting is not spoken of yet.
                sentence = told if name in self._joined or self._refused[name] >= TRIES else ""
            except Unanswered as problem:
                sentence = str(problem)
            except Exception as problem:  # Refused, or the screen is gone
                if not self._given_up.done():
                    self._given_up.set_exception(problem)
                return
            if sentence and self._said.get(name) != sentence and not self._given_up.done():
                self._said[name] = sentence
                self._complain(name, sentence)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LARGEST_RETRY)

    def _take(self, name: str, line: Mapping[str, Any]) -> None:
        word = line.get(CONTROL)
        if word == "begins":
            self._joined.add(name)
            self._said.pop(name, None)
            self._refused.pop(name, None)
            self._complain(name, "")
        elif word != "alive":
            self._show(name, line)

    def _has_none(self, name: str, problem: NoEndpoint) -> None:
        """Where it is so with all from the beginning, and stays so, nobody is waited for."""
        self._refused[name] = self._refused.get(name, 0) + 1
        hopeless = all(self._refused.get(each, 0) >= TRIES for each in self._tasks)
        if hopeless and not self._joined and not self._given_up.done():
            self._given_up.set_exception(problem)
