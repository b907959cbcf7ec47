"""A cluster in memory that answers as the API server does, for tests in virtual time; and a watch that tells what it is let tell."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from postwarden_operator.kube.api import BOOKMARK, Changes, Listing, VersionGone
from postwarden_operator.kube.follower import LISTS, OnEvent
from postwarden_operator.kube.store import Kind

_PATHS = {path: kind for kind, (path, _) in LISTS.items()}


@dataclass
class MemoryCluster:
    """failing: raised by every request, if set. oldest: changes from before it are not known any more.

    lists, follows: that were made.
    """

    version: int = 1
    objects: dict[Kind, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    history: list[tuple[int, Kind, str, dict[str, Any]]] = field(default_factory=list)
    failing: Exception | None = None
    oldest: int = 0
    lists: int = 0
    follows: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    watches: list["MemoryWatch"] = field(default_factory=list)

    def put(self, kind: Kind, uid: str, **body: Any) -> None:
        before = self.objects[kind].get(uid)
        self._happened(kind, "ADDED" if before is None else "MODIFIED", uid, body)

    def delete(self, kind: Kind, uid: str) -> None:
        self._happened(kind, "DELETED", uid, {})
        del self.objects[kind][uid]

    def _happened(self, kind: Kind, event: str, uid: str, body: Mapping[str, Any]) -> None:
        self.version += 1
        metadata = {"name": uid, "namespace": "mail", "uid": uid, "resourceVersion": str(self.version)}
        self.objects[kind][uid] = {"metadata": metadata, **body}
        self.news.set()
        self.history.append((self.version, kind, event, self.objects[kind][uid]))
        for watch in self.watches:
            watch.happened(kind, self.objects[kind][uid], event == "DELETED")

    async def request(self, method: str, path: str) -> dict[str, Any]:
        self._may_fail()
        return {"resources": [{"name": Kind.POLICY.value}]}

    async def list_all(
        self, path: str, label_selector: str = "", reduced: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Listing:
        self._may_fail()
        self.lists += 1
        return Listing([reduced(each) for each in self.objects[_PATHS[path]].values()], str(self.version))

    async def changes(self, path: str, label_selector: str, since: str) -> Changes:
        self._may_fail()
        if int(since) < self.oldest:
            raise VersionGone("too old resource version")
        events = [
            (event, body)
            for version, kind, event, body in self.history
            if kind is _PATHS[path] and version > int(since)
        ]
        return Changes(events, str(self.version))

    async def follow(
        self, path: str, label_selector: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        self._may_fail()
        self.follows += 1
        loop, told = asyncio.get_running_loop(), int(since)
        end = loop.time() + seconds
        if told < self.oldest:
            raise VersionGone("too old resource version")
        while loop.time() < end:
            for version, kind, event, body in list(self.history):
                if kind is _PATHS[path] and version > told:
                    yield event, body
            told = self.version
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), end - loop.time())
        yield BOOKMARK, {"metadata": {"resourceVersion": str(told)}}

    def _may_fail(self) -> None:
        if self.failing is not None:
            raise self.failing

    def watch(self, on_event: OnEvent) -> "MemoryWatch":
        self.watches.append(MemoryWatch(self, on_event))
        return self.watches[-1]


class MemoryWatch:
    """Lists when it begins and then tells all, unless it is silent.

    ends: end it as kopf ends. silent_for_good: not even beginning anew helps.
    """

    def __init__(
        self, cluster: MemoryCluster, on_event: Callable[[Kind, Mapping[str, Any], bool], None]
    ) -> None:
        self._cluster = cluster
        self._on_event = on_event
        self._over = asyncio.Event()
        self.silent = True
        self.silent_for_good = False
        self.begun = 0

    async def run(self) -> None:
        self._over.clear()
        self.begun += 1
        self.silent = self.silent_for_good
        for kind in Kind:
            for body in self._cluster.objects[kind].values():
                self.happened(kind, body, False)
        await self._over.wait()
        self.silent = True

    def begin_anew(self) -> None:
        self._over.set()

    ends = begin_anew

    def happened(self, kind: Kind, body: Mapping[str, Any], deleted: bool) -> None:
        if not self.silent:
            self._on_event(kind, body, deleted)
