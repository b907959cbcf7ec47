"""The election over REST: what is asked for, what is stored, and what is said when it is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from eventually import until
from kube.api_stand_in import ApiStandIn, Request, api_stand_in
from postwarden_operator.kube.leadership import Leadership
from postwarden_operator.kube.lease import Timing

TIMING = Timing.of(0.6)
"""Whole seconds are what the API stores; half of one is not worth to wait for in a unit test."""


@dataclass
class Leases:
    """One Lease with its resource version. refuse: HTTP's status for everything, in place of an answer."""

    lease: dict[str, Any] | None = None
    version: int = 0
    refuse: int | None = None
    requests: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        self.requests.append(request)
        if self.refuse is not None:
            return self.refuse, {"message": "leases is forbidden"}
        if request.method == "GET":
            return (404, {}) if self.lease is None else (200, self.lease)
        if request.method == "POST" and self.lease is not None:
            return 409, {"message": "already exists"}
        if request.method == "PUT" and request.body["metadata"]["resourceVersion"] != str(self.version):
            return 409, {"message": "the object has been modified"}
        self.version += 1
        metadata = {**request.body["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**request.body, "metadata": metadata}
        return 200, self.lease

    @property
    def spec(self) -> dict[str, Any]:
        return {} if self.lease is None else self.lease["spec"]


@asynccontextmanager
async def taking_part(stand_in: ApiStandIn, name: str) -> AsyncIterator[tuple[Leadership, list[bool]]]:
    told: list[bool] = []
    leadership = Leadership(stand_in.api, "mail", "operator", name, TIMING, told.append)
    running = asyncio.create_task(leadership.run())
    try:
        yield leadership, told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_lease_is_made_renewed_and_given_away() -> None:
    leases = Leases()
    async with api_stand_in(leases.answer) as stand_in, taking_part(stand_in, "r1") as (leadership, told):
        await until(lambda: leases.version >= 3)
        assert leadership.leading
        assert {key: leases.spec[key] for key in ("holderIdentity", "leaseTransitions")} == {
            "holderIdentity": "r1",
            "leaseTransitions": 0,
        }
        assert leases.spec["acquireTime"] < leases.spec["renewTime"]
        assert [request.method for request in leases.requests[:4]] == ["GET", "POST", "PUT", "PUT"]
        await leadership.release()
        assert (leases.spec["holderIdentity"], leases.spec["leaseDurationSeconds"]) == ("", 1)
        assert not leadership.leading
        assert told == [True, False]


async def test_second_replica_waits_until_the_first_gives_the_lease_away() -> None:
    leases = Leases()
    async with api_stand_in(leases.answer) as stand_in, taking_part(stand_in, "r1") as (first, _):
        await until(lambda: first.leading)
        async with taking_part(stand_in, "r2") as (second, told):
            await until(lambda: leases.version >= 3)
            assert told == []
            await first.release()
            await until(lambda: second.leading)
            assert (leases.spec["holderIdentity"], leases.spec["leaseTransitions"]) == ("r2", 1)


async def test_replica_that_can_not_renew_stops_to_lead_by_itself() -> None:
    leases = Leases()
    async with api_stand_in(leases.answer) as stand_in, taking_part(stand_in, "r1") as (leadership, told):
        await until(lambda: leadership.leading)
        leases.refuse = 500
        await until(lambda: told == [True, False])
        leases.refuse = None
        await until(lambda: told == [True, False, True])


async def test_missing_right_is_said_once_with_the_lease(caplog: pytest.LogCaptureFixture) -> None:
    leases = Leases(refuse=403)
    async with api_stand_in(leases.answer) as stand_in, taking_part(stand_in, "r1") as (leadership, _):
        await until(lambda: len(leases.requests) >= 3)
        assert not leadership.leading
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage() for each in errors] == [
        "the Lease mail/operator, by which replicas agree on who writes status: 403: leases is forbidden"
    ]
