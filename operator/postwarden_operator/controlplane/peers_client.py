"""Follows what other replicas tell of their sidecars, and puts it into a View.

Contract: `follow` one address until cancelled: a watch that breaks is `lost` to the view and made anew. Who turns out to be this very
replica is left alone: its own sidecars are in the view already. Addresses come and go with `PeerWatches.set_addresses`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden.screening.v1 import screening_pb2_grpc as pb_grpc

from postwarden_operator.controlplane.peer_state import from_wire
from postwarden_operator.controlplane.peers_view import View

FIRST_WAIT, LARGEST_WAIT = 0.5, 3.0
"""Seconds between two attempts; it doubles. Replicas are few: no jitter."""

RECEIVE_LIMIT = 4 * 1024 * 1024
"""Bytes of a message: see peers_server.BATCH."""

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", RECEIVE_LIMIT),
    # A node that vanished is noticed within 20 s; the server permits a ping in 10 s.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # what counts for a replica that is frozen: a minute by default
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A replica that is back is to be found at once, not after gRPC's own back-off of up to 2 min.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """address: HOST:PORT of one replica. server_name: what its certificate must be for; None: the address's own host."""

    address: str
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Asked anew for each watch: kubelet renews the token's file. trust: PEM of who signs the replicas' certificates; None: to be set
    to what sidecars are told to trust."""

    token: Path
    trust: Callable[[], bytes] | None

    def read(self) -> tuple[str, bytes]:
        """Raises OSError, ValueError."""
        token = self.token.read_text("ascii").strip()
        if not token:
            raise ValueError(f"{self.token} is empty")
        if self.trust is None:
            raise ValueError("no CA is known yet")
        return token, self.trust()


class PeerWatches:
    """replica: the name of this one. changed: called after each change of the view."""

    def __init__(
        self, replica: str, view: View, credentials: PeerCredentials, changed: Callable[[], None]
    ) -> None:
        self._replica = replica
        self._view = view
        self._credentials = credentials
        self._changed = changed
        self._tasks: dict[PeerAddress, asyncio.Task[None]] = {}

    def set_addresses(self, addresses: Iterable[PeerAddress]) -> None:
        """From now on these are followed, and no others."""
        wanted = set(addresses)
        for address in [each for each in self._tasks if each not in wanted]:
            self._tasks.pop(address).cancel()
        for address in wanted:
            if address not in self._tasks:
                self._tasks[address] = asyncio.create_task(self.follow(address))

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self.set_addresses(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, peer: PeerAddress) -> None:
        """Until cancelled, or the replica at this address turns out to be this one."""
        wait, said = FIRST_WAIT, ""
        while True:
            problem = "the watch ended"
            try:
                async for update in self._watch(peer):
                    if update.replica == self._replica:
                        return
                    self._take(peer, update)
                    wait, said = FIRST_WAIT, ""
            except grpc.aio.AioRpcError as error:
                problem = f"{error.code().name}: {error.details() or 'no details'}"
            except (OSError, ValueError) as error:
                problem = str(error)
            finally:
                self._view.lost(peer.address, asyncio.get_running_loop().time())
                self._changed()
            if problem != said:  # a replica that is away for a day is one line
                _log.warning("the replica at %s can't be asked for its sidecars: %s", peer.address, problem)
                said = problem
            await asyncio.sleep(wait)
            wait = min(2 * wait, LARGEST_WAIT)

    async def _watch(self, peer: PeerAddress) -> AsyncIterator[pb.PeerUpdate]:
        """What this replica tells. Raises grpc.aio.AioRpcError, OSError, ValueError."""
        token, ca = self._credentials.read()
        name = peer.server_name
        options = OPTIONS if name is None else (*OPTIONS, ("grpc.ssl_target_name_override", name))
        credentials = grpc.ssl_channel_credentials(ca)
        async with grpc.aio.secure_channel(peer.address, credentials, options=options) as channel:
            call = pb_grpc.PeersStub(channel).Watch(
                pb.WatchRequest(), metadata=(("authorization", f"Bearer {token}"),)
            )
            async for update in call:
                yield update

    def _take(self, peer: PeerAddress, update: pb.PeerUpdate) -> None:
        if update.replica:
            self._view.begin(peer.address)
        changed = [(state.pod_uid, from_wire(state)) for state in update.changed]
        self._view.told(peer.address, changed, update.gone, asyncio.get_running_loop().time())
        if update.complete:
            self._view.completed(peer.address)
        self._changed()
