"""Whether a caller is another replica of this operator: by TokenReview, its ServiceAccount must be our own.

Contract: a PeerAuthenticator. Tokens have an audience of their own: a sidecar's is good for nothing here, nor this one anywhere else.
Which account is our own the API server says of our own token: nothing needs to be set.
"""

import asyncio
import hashlib
import logging
from pathlib import Path

from postwarden_operator.controlplane.identity import AuthenticationFailed, Refusal
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi

AUDIENCE = "peers.postwarden.dev"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"

CACHE_SECONDS = 60.0
"""How long a good answer may be used again."""

CONCURRENT = 4
"""Reviews under way at a time: replicas are few, and a flood of bad tokens must not keep sidecars' reviews waiting."""

MOST_WAITING = 50
"""Callers whose token is not reviewed yet: more are sent away. Replicas call once in their life."""

_log = logging.getLogger(__name__)


class PeerReviewer:
    """token: the file with our own."""

    def __init__(self, api: ClusterApi, token: Path) -> None:
        self._api = api
        self._token = token
        self._own = ""
        self._good: dict[bytes, float] = {}
        self._reviews = asyncio.Semaphore(CONCURRENT)
        self._waiting = 0

    async def authenticate_peer(self, token: str) -> None:
        """Raises AuthenticationFailed."""
        now = asyncio.get_running_loop().time()
        digest = hashlib.sha256(token.encode()).digest()
        if self._good.get(digest, now) > now:
            return
        if not self._own:
            self._own = await self._user(self._read_own())
            if not self._own:
                _log.error("the token in %s is not of the audience %s", self._token, AUDIENCE)
                raise AuthenticationFailed(Refusal.UNAVAILABLE, "this replica has no good token of its own")
        user = await self._user(token)
        if user != self._own:
            raise AuthenticationFailed(
                Refusal.PERMISSION_DENIED, f"{user or 'the token'} is not the operator's ServiceAccount"
            )
        self._good = {each: until for each, until in self._good.items() if until > now}
        self._good[digest] = now + CACHE_SECONDS

    def _read_own(self) -> str:
        try:
            return self._token.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            _log.error("the token of this replica can't be read: %s", error)
            raise AuthenticationFailed(
                Refusal.UNAVAILABLE, "this replica has no good token of its own"
            ) from error

    async def _user(self, token: str) -> str:
        """Empty: no good token of our audience."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        if self._waiting >= MOST_WAITING:
            raise AuthenticationFailed(Refusal.UNAVAILABLE, "too many callers at once")
        self._waiting += 1
        try:
            async with self._reviews:
                answer = await self._api.request("POST", REVIEWS, review)
        except (ApiUnavailable, ApiRefused) as error:
            raise AuthenticationFailed(
                Refusal.UNAVAILABLE, "the API server can't be asked about the token"
            ) from error
        finally:
            self._waiting -= 1
        status = answer.get("status") or {}
        if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or ()):
            return ""
        return str((status.get("user") or {}).get("username", ""))
