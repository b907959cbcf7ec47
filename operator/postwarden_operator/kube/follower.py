"""The cluster as it is now, in a Store: policies and lists by kopf's watch and by asking beside it, pods by a watch of our own.

Pods are many and change often, and we keep five words of each. kopf takes 1 ms of CPU for an event and remembers each object: of 10,000
pods 11 s at its start, in which nothing else is heard, and 200 MB (measured); this watch takes 2 s and 25 MB.

Contract: each kind is listed completely at the start and every RESYNC seconds; every CHECK seconds it is asked what happened
since. So a watch that is silent because its connection is dead, or that was refused, costs a delay of some CHECK
seconds and nothing else: the answers go into the store like its events. What they show that the watch does not tell
makes it begin anew. `doubt` says why nothing follows from what is absent, if so. An API server that is away, refuses or fails ends
nothing here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from postwarden_operator.kube.api import (
    BOOKMARK,
    GLANCE,
    ApiRefused,
    ApiUnavailable,
    Changes,
    Listing,
    VersionGone,
)
from postwarden_operator.kube.freshness import Freshness, WatchLag
from postwarden_operator.kube.objects import INJECT_LABEL, WATCH_LABEL, essentials, essentials_of_policy
from postwarden_operator.kube.store import Kind, Store, version_of

CHECK = 10
"""Seconds between two questions of what happened: two short requests for each kind that kopf watches. And the length of our own watch:
that it comes to its end says that it was alive."""

RESYNC = 3600.0
"""Seconds between two complete lists: they do not rely on any version, nor on what we made of events. 10,000 pods cost 2 s of CPU, hence
not more often."""

RETRY = 1.0
"""Seconds until a question that failed is asked again."""

TICK = 1.0
"""Seconds between two looks at the clock: whether the watch is late, or the API server silent."""

REST = 5.0
"""Seconds of a watch at least, before it is begun anew: a list of all objects each time."""

BEYOND_REMEDY = 5
"""So often the watch begins anew without telling anything, before another process is to try it."""

GROUP = "/apis/postwarden.dev/v1alpha1"

LISTS = {
    Kind.POLICY: (f"{GROUP}/{Kind.POLICY.value}", ""),
    Kind.POD: ("/api/v1/pods", INJECT_LABEL),
    Kind.CONFIG_MAP: ("/api/v1/configmaps", WATCH_LABEL),
}

_REDUCED: dict[Kind, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Kind.POD: essentials,
    Kind.POLICY: essentials_of_policy,
}
"""What is kept of an object while others are still being read."""

_log = logging.getLogger(__name__)


class Cluster(Protocol):
    """Of `ClusterApi`, whose words these are."""

    async def request(self, method: str, path: str) -> dict[str, Any]: ...

    async def list_all(
        self, path: str, label_selector: str = "", reduced: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Listing: ...

    async def changes(self, path: str, label_selector: str, since: str) -> Changes: ...

    def follow(
        self, path: str, label_selector: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]: ...


class Watching(Protocol):
    """Of `Watch`."""

    async def run(self) -> None: ...

    def begin_anew(self) -> None: ...


OnEvent = Callable[[Kind, Mapping[str, Any], bool], None]


class Follower:
    """changed: called when the store has something new for a reconcile, or the doubt came or went."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        watch: Callable[[OnEvent], Watching],
        changed: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._changed = changed
        self._watch = watch(self._told)
        self._freshness = Freshness[Kind](LISTS)
        self._lag = WatchLag[Kind]()
        self._complete = asyncio.Event()
        """Every kind was listed."""

    @property
    def doubt(self) -> str | None:
        """Why nothing follows now from what is absent; None: the store is complete, and of these seconds."""
        return self._freshness.doubt(asyncio.get_running_loop().time())

    @property
    def beyond_remedy(self) -> bool:
        """The watch tells nothing though there is something to tell, and beginning anew does not help."""
        return self._lag.attempts >= BEYOND_REMEDY

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as parts:
            for kind in LISTS:
                parts.create_task(self._ask(kind))
            parts.create_task(self._keep_watching())
            parts.create_task(self._look_at_the_clock())

    def _told(self, kind: Kind, body: Mapping[str, Any], deleted: bool) -> None:
        self._lag.told(kind, version_of(body))
        if self._store.heard(kind, body, deleted=deleted):
            self._changed()

    async def _ask(self, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        since, listed, said = "", 0.0, ""
        while True:
            delay, now = float(CHECK), loop.time()
            try:
                if not since or now - listed >= RESYNC:
                    since, listed = await self._list(kind), now
                    delay = 0.0 if kind is Kind.POD else delay
                elif kind is Kind.POD:
                    since, delay = await self._follow(kind, since, GLANCE if said else CHECK), 0.0
                    now = loop.time()
                else:
                    since = await self._catch_up(kind, since)
            except VersionGone:
                since, delay = "", 0.0
            except Exception as error:
                delay = RETRY
                if repr(error) != said:  # an API server that is away for a day is one line
                    said = repr(error)
                    ours = not isinstance(error, ApiUnavailable | ApiRefused)
                    what = f"what there is of {kind.value} can't be read, what is known stays"
                    _log.error("%s: %s", what, error, exc_info=ours)
            else:
                if said:
                    said = ""
                    _log.info("what there is of %s can be read again", kind.value)
                self._freshness.heard(kind, now)
            await asyncio.sleep(delay)

    async def _list(self, kind: Kind) -> str:
        """Its resource version."""
        listing = await self._cluster.list_all(*LISTS[kind], _REDUCED.get(kind, dict))
        if self._store.listed(kind, listing):
            self._changed()
        if self._store.complete:
            self._complete.set()
        return listing.resource_version

    async def _catch_up(self, kind: Kind, since: str) -> str:
        """The resource version that it caught up with."""
        changes = await self._cluster.changes(*LISTS[kind], since)
        now = asyncio.get_running_loop().time()
        for event, body in changes.events:
            self._lag.read(kind, version_of(body), now)
            if self._store.heard(kind, body, deleted=event == "DELETED"):
                self._changed()
        return changes.resource_version

    async def _follow(self, kind: Kind, since: str, seconds: int) -> str:
        """The resource version that it is up to."""
        async for event, body in self._cluster.follow(*LISTS[kind], since, seconds):
            since = str(version_of(body))
            if event != BOOKMARK and self._store.heard(kind, body, deleted=event == "DELETED"):
                self._changed()
        return since

    async def _keep_watching(self) -> None:
        loop = asyncio.get_running_loop()
        # Two lists of everything at a time would be twice the memory, which is never given back.
        await self._complete.wait()
        while True:
            if await self._discovered():
                began = loop.time()
                self._lag.begun(began)
                await self._watch.run()
                _log.warning("the watch of the cluster begins anew")
                await asyncio.sleep(max(RETRY, REST - (loop.time() - began)))
            else:
                await asyncio.sleep(RETRY)

    async def _discovered(self) -> bool:
        """Whether the API server tells of our resource: kopf looks for it only once, when it starts."""
        try:
            served = await self._cluster.request("GET", GROUP)
        except (ApiUnavailable, ApiRefused):
            return False  # why is said of the lists
        return any(each.get("name") == Kind.POLICY.value for each in served.get("resources", ()))

    async def _look_at_the_clock(self) -> None:
        loop = asyncio.get_running_loop()
        doubt = self.doubt
        while True:
            await asyncio.sleep(TICK)
            if self._lag.stalled(loop.time()):
                _log.error("the watch of the cluster is open and does not tell what happens")
                self._lag.gave_up()
                self._watch.begin_anew()
            before, doubt = doubt, self.doubt
            if before != doubt:
                if before is not None and doubt is None:
                    _log.info("the cluster is known as it is now")
                elif doubt is not None:
                    _log.error("%s", doubt)
                self._changed()
