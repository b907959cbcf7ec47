"""`Peers.Watch`: tells other replicas of the sidecars of this one.

Contract: only to who has a token of the operator's own ServiceAccount. Changes are gathered for GATHER, for a policy's sidecars answer
within milliseconds of each other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from postwarden_operator.controlplane.identity import AuthenticationFailed, Refusal
from postwarden_operator.controlplane.peer_state import to_wire
from postwarden_operator.controlplane.peers_local import Feed, LocalStates

GATHER = 0.05
"""Seconds. Far below a status's interval, and below peers_view.ENDED_GRACE."""

BATCH = 100
"""Pods in a message. A sidecar with 64 DNSBL reports of 256 characters has 35 KB: then 3.5 MB (peers_client.RECEIVE_LIMIT)."""

_REFUSALS = {refusal: grpc.StatusCode[refusal.value] for refusal in Refusal}

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class PeerAuthenticator(Protocol):
    """Raises AuthenticationFailed for a token that is not the operator's own ServiceAccount's."""

    async def authenticate_peer(self, token: str) -> None: ...


class PeersServicer(pb_grpc.PeersServicer):
    """replica: the name of this one, its own for each start."""

    def __init__(self, replica: str, local: LocalStates, authenticator: PeerAuthenticator) -> None:
        self._replica = replica
        self._local = local
        self._authenticator = authenticator

    async def Watch(self, request: pb.WatchRequest, context: _Context) -> AsyncIterator[pb.PeerUpdate]:
        await self._authenticate(context)
        feed = self._local.follow()
        try:
            # What changes meanwhile is told twice, which does no harm: the later word counts.
            whole: list[pb.PeerUpdate] = []
            while (update := _update(feed)) is not None:
                whole.append(update)
            if not whole:
                whole.append(pb.PeerUpdate())
            whole[0].replica = self._replica
            whole[-1].complete = True
            for update in whole:
                yield update
            del whole
            while not feed.closed:
                await feed.wake.wait()
                await asyncio.sleep(GATHER)
                # What ends because the replica ends is not told: it is closed then.
                while not feed.closed and (update := _update(feed)) is not None:
                    yield update
        finally:
            self._local.leave(feed)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the operator shuts down")

    async def _authenticate(self, context: _Context) -> None:
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not token:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "no token of the operator's ServiceAccount"
            )
        try:
            await self._authenticator.authenticate_peer(token)
        except AuthenticationFailed as failure:
            _log.warning("refused a watch of this replica's sidecars to %s: %s", context.peer(), failure)
            await context.abort(_REFUSALS[failure.code], str(failure))


def _update(feed: Feed) -> pb.PeerUpdate | None:
    changed, gone = feed.take(BATCH)
    if not changed and not gone:
        return None
    return pb.PeerUpdate(changed=[to_wire(uid, state) for uid, state in changed], gone=gone)
