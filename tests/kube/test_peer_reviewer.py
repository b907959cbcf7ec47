"""Who counts as another replica: the operator's own ServiceAccount, by the API server's word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kube.api_stand_in import Request, api_stand_in
from postwarden_operator.controlplane.identity import AuthenticationFailed, Refusal
from postwarden_operator.kube.peer_reviewer import AUDIENCE, MOST_WAITING, PeerReviewer

OPERATOR = "system:serviceaccount:postwarden-system:postwarden-operator"
USERS = {"own": OPERATOR, "other-replicas": OPERATOR, "mallorys": "system:serviceaccount:mail:default"}


def reviews(request: Request) -> tuple[int, dict[str, Any]]:
    """As the API server: a token of another audience is not authenticated."""
    assert request.body["spec"]["audiences"] == [AUDIENCE]
    user = USERS.get(request.body["spec"]["token"])
    if user is None:
        return 201, {"status": {"authenticated": False}}
    return 201, {"status": {"authenticated": True, "audiences": [AUDIENCE], "user": {"username": user}}}


def own_token(folder: Path, text: str = "own") -> Path:
    path = folder / "token"
    path.write_text(text)
    return path


async def test_token_of_the_same_account_is_good_and_reviewed_once(tmp_path: Path) -> None:
    async with api_stand_in(reviews) as stand_in:
        reviewer = PeerReviewer(stand_in.api, own_token(tmp_path))
        for _ in range(3):
            await reviewer.authenticate_peer("other-replicas")
        assert [request.body["spec"]["token"] for request in stand_in.requests] == ["own", "other-replicas"]


@pytest.mark.parametrize("token", ["mallorys", "nonsense"])
async def test_any_other_token_is_refused_each_time(tmp_path: Path, token: str) -> None:
    async with api_stand_in(reviews) as stand_in:
        reviewer = PeerReviewer(stand_in.api, own_token(tmp_path))
        for _ in range(2):
            with pytest.raises(AuthenticationFailed) as refused:
                await reviewer.authenticate_peer(token)
            assert refused.value.code is Refusal.PERMISSION_DENIED
            assert token not in str(refused.value)


@pytest.mark.parametrize("own", ["", "nonsense", None])
async def test_replica_without_a_good_token_of_its_own_lets_nobody_in(
    tmp_path: Path, own: str | None
) -> None:
    async with api_stand_in(reviews) as stand_in:
        path = tmp_path / "none" if own is None else own_token(tmp_path, own)
        with pytest.raises(AuthenticationFailed) as refused:
            await PeerReviewer(stand_in.api, path).authenticate_peer("nonsense")
    assert refused.value.code is Refusal.UNAVAILABLE


async def test_api_server_that_is_away_says_nothing_against_a_token(tmp_path: Path) -> None:
    async with api_stand_in(lambda request: (500, {})) as stand_in:
        with pytest.raises(AuthenticationFailed) as refused:
            await PeerReviewer(stand_in.api, own_token(tmp_path)).authenticate_peer("other-replicas")
    assert refused.value.code is Refusal.UNAVAILABLE


async def test_flood_of_bad_tokens_is_sent_away_without_asking_the_api_server_of_each(tmp_path: Path) -> None:
    async with api_stand_in(reviews) as stand_in:
        reviewer = PeerReviewer(stand_in.api, own_token(tmp_path))
        await reviewer.authenticate_peer("other-replicas")
        flood = (reviewer.authenticate_peer(f"nonsense-{number}") for number in range(MOST_WAITING + 20))
        ended = await asyncio.gather(*flood, return_exceptions=True)
        codes = [each.code for each in ended if isinstance(each, AuthenticationFailed)]
        assert codes.count(Refusal.PERMISSION_DENIED) == MOST_WAITING
        assert codes.count(Refusal.UNAVAILABLE) == 20
        await reviewer.authenticate_peer("other-replicas")
