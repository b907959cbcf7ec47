"""Whose token is it.

The API server is asked (TokenReview), for it alone knows which tokens it issued to which pods.

Contract: an Authenticator. Only tokens of our audience that are bound to a pod pass: `kubectl create token`
gives one of the right audience without a pod (measured). The pod must be one that we watch, and still be
there. What the API server can't be asked is UNAVAILABLE: a sidecar must not think that its token is bad.
"""

import asyncio
import hashlib
import logging
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

_log = logging.getLogger(__name__)


class TokenReviewer:
    """pod: what is known of a pod by its uid, now."""

    def __init__(self, api: ClusterApi, pod: Callable[[str], Pod | None]) -> None:
        self._api = api
        self._pod = pod
        self._reviews = asyncio.Semaphore(CONCURRENT)
        self._cache: dict[bytes, tuple[float, Identity | None]] = {}

    async def authenticate(self, token: str) -> Identity:
        """Raises AuthenticationFailed."""
        now = asyncio.get_running_loop().time()
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            identity = cached[1]
        else:
            identity = await self._review(token)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[digest] = (now + CACHE_SECONDS, identity)
        if identity is None:
            raise AuthenticationFailed(Refusal.PERMISSION_DENIED, "the token is bound to no pod")
        await self._known(identity)
        return identity

    async def _known(self, identity: Identity) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + POD_LAG
        while self._pod(identity.pod_uid) is None:
            if loop.time() >= end:
                raise AuthenticationFailed(
                    Refusal.PERMISSION_DENIED,
                    f"pod {identity.namespace}/{identity.name} is gone or lacks the label postwarden.dev/inject: true",
                )
            await asyncio.sleep(POLL)

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
