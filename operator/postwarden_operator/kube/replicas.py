"""This replica among the others: who writes status, and of which sidecars.

Contract: `sink` is told by the registry, `publish` by the reconcile; the status writer sees the sidecars of all replicas while this one
leads, and writes nothing while it does not. Without settings it is the only replica: it leads always, and asks nobody.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.controlplane.peers_client import PeerAddress, PeerCredentials, PeerWatches
from postwarden_operator.controlplane.peers_local import LocalStates, Streams
from postwarden_operator.controlplane.peers_server import PeersServicer
from postwarden_operator.controlplane.peers_view import View
from postwarden_operator.kube.api import ClusterApi
from postwarden_operator.kube.leadership import Leadership
from postwarden_operator.kube.lease import Timing
from postwarden_operator.kube.peer_reviewer import PeerReviewer
from postwarden_operator.kube.status_writer import Current, Intercepted, StatusWriter
from postwarden_operator.reconcile.plan import Plan

DISCOVERY = 2.0
"""Seconds between two looks for replicas: one DNS question."""

SETTLE = 2.0
"""In durations of the Lease: how long a sidecar that a replica had which is gone, or of which a new leader has not heard, does not count
as disconnected. 30 s with the usual 15 s (design)."""

_OWN = ""
"""This replica's name in its own view."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peers:
    """addresses: HOST and port; a name stands for all replicas that it resolves to."""

    addresses: tuple[tuple[str, int], ...]
    credentials: PeerCredentials


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """namespace, name: of the Lease; duration: its, in seconds. peers None: this is the only replica, but for a moment in a rollout."""

    namespace: str
    name: str
    duration: float = 15.0
    peers: Peers | None = None


class Replicas:
    """streams: the registry. current: a policy's status as it is in the cluster."""

    def __init__(
        self,
        api: ClusterApi,
        settings: ReplicaSettings | None,
        streams: Callable[[], Streams],
        current: Current,
        intercepted: Intercepted = lambda outcome: None,
    ) -> None:
        self._settings = settings
        self._settle = SETTLE * settings.duration if settings is not None else 0.0
        name = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._view = View(self._settle)
        self._view.begin(_OWN)
        self._view.completed(_OWN)
        self.sink = LocalStates(streams, self._own)
        self.writer = StatusWriter(
            api,
            self.state,
            current,
            may_write=lambda: self.leading,
            intercepted=intercepted,
            changes=lambda: self._view.take_changes(asyncio.get_running_loop().time()),
        )
        self._leadership: Leadership | None = None
        self._watches: PeerWatches | None = None
        self._led = asyncio.Event()
        self._published = asyncio.Event()
        self.known_to_lead = settings is None
        """As was last said, for who does not act on it; any thread may ask."""
        self.servicer: PeersServicer | None = None
        """To be served beside the sidecars; None: there are no others."""
        if settings is not None:
            self._leadership = Leadership(
                api, settings.namespace, settings.name, name, Timing.of(settings.duration), self._lead
            )
            if settings.peers is not None:
                credentials = settings.peers.credentials
                self._watches = PeerWatches(name, self._view, credentials, self.writer.mark_dirty)
                self.servicer = PeersServicer(name, self.sink, PeerReviewer(api, credentials.token))

    @property
    def leading(self) -> bool:
        return self._leadership is None or self._leadership.leading

    def state(self, pod_uid: str) -> PeerState | None:
        """Of a sidecar, as far as is known here; None: it has no stream."""
        return self._view.word(pod_uid, asyncio.get_running_loop().time())

    def publish(self, plan: Plan) -> None:
        """What became of all policies."""
        self._published.set()
        self.writer.publish(plan)

    async def _take_part(self, leadership: Leadership) -> None:
        """Not before it knows what there is to be written: one that can't read the cluster must not keep others from it."""
        await self._published.wait()
        await leadership.run()

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """To be run until the end."""
        parts = [self.writer.run()]
        if self._leadership is not None:
            parts.append(self._take_part(self._leadership))
        if self._watches is not None:
            parts.append(self._follow())
        return parts

    async def stop(self) -> None:
        """Before this replica's streams end: that says nothing of the sidecars, and others write their status from now on."""
        self.sink.close()
        if self._leadership is not None:
            await self._leadership.release()
        if self._watches is not None:
            await self._watches.stop()

    def _own(self, pod_uid: str, state: PeerState | None) -> None:
        now = asyncio.get_running_loop().time()
        if state is None:
            self._view.told(_OWN, (), (pod_uid,), now)
        else:
            self._view.told(_OWN, ((pod_uid, state),), (), now)
        self.writer.mark_dirty()

    def _lead(self, leading: bool) -> None:
        self.known_to_lead = leading
        if leading:
            self.writer.take_over(self._settle)
        self._led.set()

    async def _follow(self) -> None:
        """While it leads, follow all replicas that there are."""
        assert self._settings is not None
        assert self._settings.peers is not None
        assert self._watches is not None
        said = ""
        while True:
            if not self.leading:
                self._watches.set_addresses(())
            else:
                try:
                    self._watches.set_addresses(await look_up(self._settings.peers))
                    said = ""
                except OSError as error:
                    if str(error) != said:
                        _log.error("the replicas can't be looked up, those known stay: %s", error)
                        said = str(error)
            self._led.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._led.wait(), DISCOVERY)


async def look_up(peers: Peers) -> set[PeerAddress]:
    """All replicas that there are now, this one too. Raises OSError, with the name in its text."""
    found: set[PeerAddress] = set()
    for host, port in peers.addresses:
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise OSError(f"{host}: {error.strerror or error}") from error
        for *_, address in answers:
            ip = str(address[0])
            literal = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            found.add(PeerAddress(literal, None if ip == host else host))
    return found
