"""The Secrets that policies name, asked for by name and never listed or watched.

Contract: `find` gives what every named Secret holds now: asked of the API server when a policy newly names it or changed, else as of
FRESH seconds ago at most. `changed` asks for those whose time has come and says whether any is another than before. A Secret that
can't be asked for now stays as it was last seen.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.compiler import NotPermitted
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.references import References
from postwarden_operator.policy.dnsbl import USED_FOR
from postwarden_operator.reconcile.world import Secret

FRESH = 10.0
"""Seconds: pods that come and go make a reconcile each, and Secrets do not change with them."""

POLL = 60.0
"""Seconds between two looks at a Secret (design)."""

POLL_ABSENT = 10.0
"""Seconds between two looks for one that is missing, or may not be read: somebody is about to mend that."""

Name = tuple[str, str]
"""Namespace and name."""

_log = logging.getLogger(__name__)


def secret_of(body: Mapping[str, Any]) -> Secret:
    """From the API server's JSON."""
    metadata = body.get("metadata") or {}
    data = body.get("data") or {}
    return Secret(
        {key: base64.b64decode(value) for key, value in data.items()},
        str(metadata.get("resourceVersion", "")),
        (metadata.get("annotations") or {}).get(USED_FOR),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """content: None where there is no such Secret."""

    at: float
    content: Secret | NotPermitted | None

    @property
    def due(self) -> float:
        """When to look again."""
        return self.at + (POLL if isinstance(self.content, Secret) else POLL_ABSENT)


class Secrets:
    """Used from one event loop."""

    def __init__(
        self, api: ClusterApi, references: References, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._references = references
        self._clock = clock
        self._seen: dict[Name, _Seen] = {}
        self._documents: dict[str, Mapping[str, Any]] = {}

    async def find(self, documents: Iterable[Mapping[str, Any]]) -> dict[Name, Secret | NotPermitted]:
        """Of all that the policies name, those that exist, or that we may not read."""
        by_uid = {str(document["metadata"].get("uid")): document for document in documents}
        named = {name for document in by_uid.values() for name in self._references.of(document).secrets}
        changed = [document for uid, document in by_uid.items() if self._documents.get(uid) != document]
        anew = {name for document in changed for name in self._references.of(document).secrets}
        self._documents = by_uid
        self._seen = {name: seen for name, seen in self._seen.items() if name in named}
        now = self._clock()
        await self._look(
            name
            for name in sorted(named)
            if name in anew or name not in self._seen or self._seen[name].at + FRESH <= now
        )
        return {
            name: seen.content
            for name, seen in self._seen.items()
            if name in named and seen.content is not None
        }

    async def changed(self) -> bool:
        """Whether a Secret whose time has come is another than it was."""
        now = self._clock()
        before = {name: seen.content for name, seen in self._seen.items() if seen.due <= now}
        await self._look(sorted(before))
        return any(name in self._seen and self._seen[name].content != before[name] for name in before)

    async def _look(self, names: Iterable[Name]) -> None:
        await asyncio.gather(*(self._look_at(*name) for name in names))

    async def _look_at(self, namespace: str, name: str) -> None:
        content: Secret | NotPermitted | None
        try:
            content = secret_of(
                await self._api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
            )
        except (ApiRefused, ApiUnavailable) as error:
            match getattr(error, "status", None):
                case 403:
                    content = NotPermitted()
                case 404:
                    content = None
                case _:
                    _log.warning("Secret %s/%s: %s", namespace, name, error)
                    last = self._seen.get((namespace, name))
                    content = None if last is None else last.content
        self._seen[namespace, name] = _Seen(self._clock(), content)
