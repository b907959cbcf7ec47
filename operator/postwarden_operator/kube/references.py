"""What policies name: ConfigMaps and Secrets. And of the ConfigMaps that are not watched: do they not exist, or lack they the label?

Contract: they are asked of the API server by name, at most once in CACHE_SECONDS each, for the one that is missing is
named at every reconcile. What can't be asked counts as missing: either way the pods keep what they have.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from postwarden_operator.compiler import NotLabelled
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.policy import PolicyInvalid, config_map_references, parse_policy, secret_references

CACHE_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Named:
    """By namespace and name."""

    config_maps: frozenset[tuple[str, str]] = frozenset()
    secrets: frozenset[tuple[str, str]] = frozenset()


class References:
    """Remembers what each policy names, for a policy is read at every reconcile."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[Mapping[str, Any], Named]] = {}

    def of(self, document: Mapping[str, Any]) -> Named:
        """Nothing for an invalid policy."""
        uid = str(document["metadata"].get("uid"))
        last = self._named.get(uid)
        if last is not None and (last[0] is document or last[0] == document):
            return last[1]
        try:
            policy = parse_policy(document, strict=False)
            namespace = policy.metadata.namespace
            named = Named(
                frozenset((namespace, key.name) for key in config_map_references(policy)),
                frozenset((namespace, key.name) for key in secret_references(policy)),
            )
        except PolicyInvalid:
            named = Named()
        self._named[uid] = (document, named)
        return named

    def keep_only(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Forget the policies that are gone."""
        kept = {str(document["metadata"].get("uid")) for document in documents}
        self._named = {uid: each for uid, each in self._named.items() if uid in kept}


class Unwatched:
    """Looks for the ConfigMaps that the watch does not tell of."""

    def __init__(self, api: ClusterApi, references: References) -> None:
        self._api = api
        self._references = references
        self._found: dict[tuple[str, str], tuple[float, bool]] = {}

    async def find(
        self, documents: Iterable[Mapping[str, Any]], watched: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], NotLabelled]:
        """Those that exist without the label, of all that the policies name."""
        documents, known = list(documents), set(watched)
        named = {each for document in documents for each in self._references.of(document).config_maps}
        missing = sorted(named - known)
        exist = await asyncio.gather(*(self._exists(*each) for each in missing))
        return {each: NotLabelled() for each, there in zip(missing, exist, strict=True) if there}

    async def _exists(self, namespace: str, name: str) -> bool:
        now = asyncio.get_running_loop().time()
        cached = self._found.get((namespace, name))
        if cached is not None and cached[0] > now:
            return cached[1]
        try:
            await self._api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
            there = True
        except ApiRefused as error:
            if error.status not in (403, 404):
                _log.warning("ConfigMap %s/%s: %s", namespace, name, error)
            there = False
        except ApiUnavailable as error:
            _log.warning("ConfigMap %s/%s: %s", namespace, name, error)
            return False
        self._found = {key: each for key, each in self._found.items() if each[0] > now}
        self._found[namespace, name] = (now + CACHE_SECONDS, there)
        return there
