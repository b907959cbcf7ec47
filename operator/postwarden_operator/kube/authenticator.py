"""Whose token is it.

The API server is asked (TokenReview), for it alone knows which tokens it issued to which pods.

Contract: an Authenticator. Only tokens of our audience that are bound to a pod pass: `kubectl create token`
gives one of the right audience without a pod (measured). The pod must be one that we watch, and still be
there. What the API server can't be asked is UNAVAILABLE: a sidecar must not think that its token is bad.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable

from postwarden_operator.controlplane.identity import AuthenticationFailed, Identity, Refusal
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.reconcile.world import Pod

AUDIENCE = "postwarden.dev"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"

CONCURRENT = 50
"""Reviews under way at a time: all sidecars come back at once after the operator was away."""

CACHE_SECONDS = 60.0
"""How long an answer may be used again. The pod's end is noticed by the watch, at once."""

CACHE_LIMIT = 20_000
"""Answers that are kept; above, all are forgotten. Two for each of 10,000 pods."""

POD_LAG = 5.0
"""Seconds in which the watch must have told of a pod that already has a token."""

POLL = 0.1
"""Seconds between two looks for that pod."""

WAITING = 4
"""Calls of one pod that wait for that: a pod that is never to come must not fill the operator with its calls."""

_log = logging.getLogger(__name__)


class TokenReviewer:
    """pod: what is known of a pod by its uid, now."""

    def __init__(self, api: ClusterApi, pod: Callable[[str], Pod | None]) -> None:
        self._api = api
        self._pod = pod
        self._reviews = asyncio.Semaphore(CONCURRENT)
        self._cache: dict[bytes, tuple[float, Identity | None]] = {}
        self._under_way: dict[bytes, asyncio.Task[Identity | None]] = {}
        self._waiting: Counter[str] = Counter()

    async def authenticate(self, token: str) -> Identity:
        """Raises AuthenticationFailed. A token that was revoked is good for as long as its answer is kept, but not beyond its pod."""
        now = asyncio.get_running_loop().time()
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            identity = cached[1]
        else:
            identity = await self._review_once(digest, token)
        if identity is None:
            raise AuthenticationFailed(Refusal.PERMISSION_DENIED, "the token is bound to no pod")
        await self._known(identity)
        return identity

    async def _review_once(self, digest: bytes, token: str) -> Identity | None:
        """However many calls bring the token at the same time."""
        review = self._under_way.get(digest)
        if review is None:
            review = self._under_way[digest] = asyncio.create_task(self._review(token))
            review.add_done_callback(lambda done: self._reviewed(digest, done))
        return await asyncio.shield(review)  # who hangs up must not end it for the others

    def _reviewed(self, digest: bytes, review: asyncio.Task[Identity | None]) -> None:
        del self._under_way[digest]
        if review.cancelled() or review.exception() is not None:
            return
        if len(self._cache) >= CACHE_LIMIT:
            self._cache.clear()
        self._cache[digest] = (asyncio.get_running_loop().time() + CACHE_SECONDS, review.result())

    async def _known(self, identity: Identity) -> None:
        uid, loop = identity.pod_uid, asyncio.get_running_loop()
        end = loop.time() + POD_LAG
        while self._pod(uid) is None:
            if loop.time() >= end or self._waiting[uid] >= WAITING:
                raise AuthenticationFailed(
                    Refusal.PERMISSION_DENIED,
                    f"pod {identity.namespace}/{identity.name} is gone or lacks the label postwarden.dev/inject: true",
                )
            self._waiting[uid] += 1
            try:
                await asyncio.sleep(POLL)
            finally:
                self._waiting[uid] -= 1
                if not self._waiting[uid]:
                    del self._waiting[uid]

    async def _review(self, token: str) -> Identity | None:
        """None: a good token without a pod."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            async with self._reviews:
                answer = await self._api.request("POST", REVIEWS, review)
        except (ApiUnavailable, ApiRefused) as error:
            _log.error("a token can't be reviewed: %s", error)
            raise AuthenticationFailed(
                Refusal.UNAVAILABLE, "the API server can't be asked about the token"
            ) from error
        status = answer.get("status") or {}
        if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or ()):
            raise AuthenticationFailed(Refusal.UNAUTHENTICATED, f"no valid token for the audience {AUDIENCE}")
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        names, uids = extra.get(POD_NAME), extra.get(POD_UID)
        # system:serviceaccount:NAMESPACE:NAME, and a pod is in the namespace of its account.
        account = str(user.get("username", "")).split(":")
        if not names or not uids or len(account) != 4:
            return None
        return Identity(pod_uid=uids[0], namespace=account[2], name=names[0])
