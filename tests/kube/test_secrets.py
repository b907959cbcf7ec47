"""Secrets: asked for by name when a policy names them and then now and again, never listed, and never shown."""

import base64
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from kube.api_stand_in import ApiStandIn, Request, api_stand_in
from postwarden_operator.compiler import NotPermitted
from postwarden_operator.kube.references import References
from postwarden_operator.kube.secrets import FRESH, POLL, POLL_ABSENT, Secrets
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import plan
from postwarden_operator.reconcile.world import Pod, Secret, World

PLANTED = "planted7key3of9zone"
NAME = ("mail", "dqs")


def secret(value: str = PLANTED, version: str = "17") -> dict[str, Any]:
    return {
        "metadata": {
            "name": "dqs",
            "resourceVersion": version,
            "annotations": {"postwarden.dev/used-for": "dq.spamhaus.net"},
        },
        "data": {"token": base64.b64encode(value.encode()).decode()},
    }


def document(generation: int = 1, *, name: str = "dqs") -> dict[str, Any]:
    site = {
        "zone": "{key}.zen.dq.spamhaus.net",
        "keyFrom": {"secretKeyRef": {"name": name, "key": "token"}},
    }
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": {"name": "wall", "namespace": "mail", "uid": "u", "generation": generation},
        "spec": {"selector": {}, "dnsbl": {"sites": [site]}},
    }


@dataclass
class Cluster:
    """answer: to who asks for a Secret. now: the time, in seconds."""

    api: ApiStandIn
    answer: tuple[int, dict[str, Any]] = field(default_factory=lambda: (200, secret()))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.api.answer = self._answer
        self.secrets = Secrets(self.api.api, References(), lambda: self.now)

    def _answer(self, _request: Request) -> tuple[int, dict[str, Any]]:
        return self.answer

    @property
    def asked(self) -> int:
        return len(self.api.requests)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with api_stand_in(lambda _: (500, {})) as stand_in:
        yield Cluster(stand_in)


async def test_secret_is_asked_for_by_its_name_and_by_nothing_else(cluster: Cluster) -> None:
    found = await cluster.secrets.find([document()])
    assert found == {NAME: Secret({"token": PLANTED.encode()}, "17", "dq.spamhaus.net")}
    assert [(request.method, request.path) for request in cluster.api.requests] == [
        ("GET", "/api/v1/namespaces/mail/secrets/dqs")
    ]


async def test_reconciles_that_follow_each_other_ask_once_and_a_changed_policy_asks_anew(
    cluster: Cluster,
) -> None:
    for _ in range(3):
        await cluster.secrets.find([document()])
    assert cluster.asked == 1
    await cluster.secrets.find([document(generation=2)])
    assert cluster.asked == 2
    cluster.now += FRESH
    await cluster.secrets.find([document(generation=2)])
    assert cluster.asked == 3


async def test_change_is_noticed_after_a_while_without_any_reconcile(cluster: Cluster) -> None:
    await cluster.secrets.find([document()])
    cluster.answer = 200, secret("other", "18")
    cluster.now += POLL - 1
    assert not await cluster.secrets.changed()
    assert cluster.asked == 1
    cluster.now += 1
    assert await cluster.secrets.changed()
    assert (await cluster.secrets.find([document()]))[NAME] == Secret(
        {"token": b"other"}, "18", "dq.spamhaus.net"
    )
    assert not await cluster.secrets.changed()
    assert cluster.asked == 2


@pytest.mark.parametrize(("status", "expected"), [(404, {}), (403, {NAME: NotPermitted()})])
async def test_secret_that_is_absent_or_forbidden_is_looked_for_more_often(
    status: int, expected: dict[tuple[str, str], object], cluster: Cluster
) -> None:
    cluster.answer = status, {"message": "no"}
    assert await cluster.secrets.find([document()]) == expected
    cluster.now += POLL_ABSENT
    assert not await cluster.secrets.changed()
    cluster.answer = 200, secret()
    cluster.now += POLL_ABSENT
    assert await cluster.secrets.changed()
    assert NAME in await cluster.secrets.find([document()])


@pytest.mark.parametrize("status", [503, 429, 401])
async def test_secret_stays_as_it_was_while_the_api_server_has_a_problem(
    status: int, cluster: Cluster
) -> None:
    before = await cluster.secrets.find([document()])
    cluster.answer = status, {}
    cluster.now += POLL
    assert not await cluster.secrets.changed()
    assert await cluster.secrets.find([document()]) == before


async def test_secret_that_no_policy_names_any_more_is_forgotten(cluster: Cluster) -> None:
    await cluster.secrets.find([document()])
    assert set(await cluster.secrets.find([document(2, name="other")])) == {("mail", "other")}
    assert await cluster.secrets.find([]) == {}
    cluster.now += POLL
    assert not await cluster.secrets.changed()
    assert cluster.asked == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, secret()), "Resolved"),
        ((404, {}), "RefNotFound"),
        ((403, {}), "RefNotPermitted"),
        ((200, {"metadata": {}, "data": secret()["data"]}), "RefNotAllowed"),
        ((200, secret(f"{PLANTED} x")), "RefNotFound"),
    ],
)
async def test_policy_is_told_what_became_of_its_key_and_the_key_is_shown_nowhere(
    answer: tuple[int, dict[str, Any]], reason: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cluster.answer = answer
    documents = (document(),)
    world = World(
        documents, (Pod("pod", "mail", "mta", {}, True),), {}, await cluster.secrets.find(documents)
    )
    result = plan(world, Compiler(strict=False))
    (outcome,) = result.outcomes
    assert outcome.compilation.resolved.reason == reason
    for shown in (repr(world), repr(result), caplog.text, outcome.revision or ""):
        assert PLANTED not in shown
        assert base64.b64encode(PLANTED.encode()).decode() not in shown
