"""ConfigMaps that a policy names and that are not watched: do they not exist, or lack they the label?

Contract: asked of the API server by name, at most once in CACHE_SECONDS each, for the one that is missing is
named at every reconcile. What can't be asked counts as missing: either way the pods keep what they have.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from postwarden_operator.compiler import NotLabelled
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.policy import PolicyInvalid, config_map_references, parse_policy

CACHE_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Unwatched:
    """Looks for the ConfigMaps that the watch does not tell of."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._named: dict[str, tuple[Mapping[str, Any], frozenset[tuple[str, str]]]] = {}
        self._found: dict[tuple[str, str], tuple[float, bool]] = {}

    async def find(
        self, documents: Iterable[Mapping[str, Any]], watched: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], NotLabelled]:
        """Those that exist without the label, of all that the policies name."""
        documents, known = list(documents), set(watched)
        named = {each for document in documents for each in self._references(document)}
        self._named = {uid: each for uid, each in self._named.items() if each[0] in documents}
        missing = sorted(named - known)
        exist = await asyncio.gather(*(self._exists(*each) for each in missing))
        return {each: NotLabelled() for each, there in zip(missing, exist, strict=True) if there}

    def _references(self, document: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
        uid = str(document["metadata"].get("uid"))
        last = self._named.get(uid)
        if last is not None and last[0] == document:
            return last[1]
        try:
            policy = parse_policy(document, strict=False)
            namespace = policy.metadata.namespace
            named = frozenset((namespace, key.name) for key in config_map_references(policy))
        except PolicyInvalid:
            named = frozenset()
        self._named[uid] = (document, named)
        return named

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
