"""Who is followed, who is waited for, and when there is no sense in it; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
from postwarden_cli.admin_client import NoEndpoint, Opener, Unanswered
from postwarden_cli.tail_followers import TRIES, Followers

pytestmark = pytest.mark.looptime

NONE, BUSY = NoEndpoint("mta-0 has no endpoint"), Unanswered("mta-0 is busy")


class Pod:
    """Answers each try with the next of these; then with the last."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.tries = 0

    def __call__(self) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[aiohttp.ClientSession]:
            self.tries += 1
            raise self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            yield

        return opened()


async def always(pods: Mapping[str, Opener]) -> AsyncIterator[Mapping[str, Opener]]:
    while True:
        yield pods
        await asyncio.sleep(1)


def followers(said: list[str]) -> Followers:
    return Followers({}, lambda name, line: None, lambda name, sentence: said.append(sentence))


async def test_a_pod_that_never_has_an_endpoint_is_given_up_after_some_tries() -> None:
    old, said = Pod(NONE), list[str]()
    with pytest.raises(NoEndpoint):
        await followers(said).run(always({"mta-0": old}))
    assert (old.tries, said) == (TRIES, [])


async def test_a_pod_whose_endpoint_is_late_is_waited_for() -> None:
    late, said = Pod(*[NONE] * (TRIES - 1), BUSY), list[str]()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await followers(said).run(always({"mta-0": late}))
    assert said == [str(BUSY)]


async def test_one_pod_that_may_come_is_reason_enough_to_wait() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await followers([]).run(always({"old-0": Pod(NONE), "mta-0": Pod(BUSY)}))
