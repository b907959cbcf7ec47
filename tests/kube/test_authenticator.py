"""Whose token: what the API server's answers mean, and how often it is asked."""

import asyncio
from typing import Any

import pytest
from kube.api_stand_in import ApiStandIn, Request, api_stand_in
from postwarden_operator.controlplane.identity import AuthenticationFailed, Identity, Refusal
from postwarden_operator.kube.authenticator import AUDIENCE, POD_NAME, POD_UID, WAITING, TokenReviewer
from postwarden_operator.reconcile.world import Pod

POD = Pod("uid-1", "mail", "mta-0", {}, True)
BOUND = {POD_NAME: ["mta-0"], POD_UID: ["uid-1"]}


def authenticated(extra: dict[str, list[str]], audiences: tuple[str, ...] = (AUDIENCE,)) -> dict[str, Any]:
    user = {"username": "system:serviceaccount:mail:default", "extra": extra}
    return {"status": {"authenticated": True, "audiences": list(audiences), "user": user}}


def answers(request: Request) -> tuple[int, dict[str, Any]]:
    """The token says what the API server thinks of it."""
    assert request.path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert request.body["spec"]["audiences"] == [AUDIENCE]
    match request.body["spec"]["token"]:
        case "bound":
            return 201, authenticated(BOUND)
        case "unbound":
            return 201, authenticated({})
        case "other-audience":
            return 201, authenticated(BOUND, ("another.test",))
        case "forbidden":
            return 403, {"message": "the operator may not review tokens"}
        case "broken":
            return 500, {"message": "etcd is away"}
        case _:
            return 201, {"status": {"authenticated": False, "error": "invalid"}}


def reviewer(stand_in: ApiStandIn, *pods: Pod) -> TokenReviewer:
    return TokenReviewer(stand_in.api, {pod.uid: pod for pod in pods}.get)


async def test_bound_token_is_the_pods_and_is_asked_about_once() -> None:
    async with api_stand_in(answers) as stand_in:
        tokens = reviewer(stand_in, POD)
        for _ in range(3):
            assert await tokens.authenticate("bound") == Identity("uid-1", "mail", "mta-0")
        assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("invalid", Refusal.UNAUTHENTICATED),
        ("other-audience", Refusal.UNAUTHENTICATED),
        ("unbound", Refusal.PERMISSION_DENIED),
        ("forbidden", Refusal.UNAVAILABLE),
        ("broken", Refusal.UNAVAILABLE),
    ],
)
async def test_what_is_no_bound_token_is_refused_with_its_code(token: str, code: Refusal) -> None:
    async with api_stand_in(answers) as stand_in:
        with pytest.raises(AuthenticationFailed) as refused:
            await reviewer(stand_in, POD).authenticate(token)
    assert refused.value.code is code
    assert token not in str(refused.value).split()


async def test_api_server_that_is_away_is_unavailable_and_not_remembered() -> None:
    async with api_stand_in(answers) as stand_in:
        gone, stand_in.answer = stand_in.answer, lambda _: (503, {})
        tokens = reviewer(stand_in, POD)
        with pytest.raises(AuthenticationFailed) as refused:
            await tokens.authenticate("bound")
        assert refused.value.code is Refusal.UNAVAILABLE
        stand_in.answer = gone
        assert await tokens.authenticate("bound")


async def test_pod_that_the_watch_tells_of_a_little_later_is_waited_for() -> None:
    pods: dict[str, Pod] = {}

    def late(request: Request) -> tuple[int, dict[str, Any]]:
        asyncio.get_running_loop().call_later(0.05, pods.update, {POD.uid: POD})
        return answers(request)

    async with api_stand_in(late) as stand_in:
        identity = await TokenReviewer(stand_in.api, pods.get).authenticate("bound")
        assert identity.pod_uid == POD.uid


@pytest.mark.looptime
async def test_pod_that_is_gone_is_refused_although_its_token_is_remembered() -> None:
    # No stand-in: it would wait in real time.
    pods = {POD.uid: POD}

    class Once(TokenReviewer):
        async def _review(self, token: str) -> Identity | None:
            return Identity(POD.uid, POD.namespace, POD.name)

    tokens = Once(None, pods.get)  # type: ignore[arg-type]  # it is never asked
    await tokens.authenticate("bound")
    del pods[POD.uid]
    with pytest.raises(AuthenticationFailed, match="mail/mta-0 is gone") as refused:
        await tokens.authenticate("bound")
    assert refused.value.code is Refusal.PERMISSION_DENIED


async def test_token_that_comes_many_times_at_once_is_reviewed_once_also_if_the_first_hangs_up() -> None:
    async with api_stand_in(answers) as stand_in:
        tokens = reviewer(stand_in, POD)
        calls = [asyncio.create_task(tokens.authenticate("bound")) for _ in range(100)]
        await asyncio.sleep(0)
        calls[0].cancel()
        found = await asyncio.gather(*calls[1:])
        assert set(found) == {Identity("uid-1", "mail", "mta-0")}
        assert len(stand_in.requests) == 1


async def test_calls_of_a_pod_that_never_comes_do_not_pile_up() -> None:
    async with api_stand_in(answers) as stand_in:
        tokens = reviewer(stand_in)
        calls = [asyncio.create_task(tokens.authenticate("bound")) for _ in range(100)]
        done: set[asyncio.Task[Identity]] = set()
        async with asyncio.timeout(10):
            while len(done) < 100 - WAITING:
                done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0.01)
        assert {type(call.exception()) for call in done} == {AuthenticationFailed}
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
