"""REST requests to the API server, through the Kubernetes client's asyncio side.

Contract: plain JSON in and out: its models would cost more than what we read of them. It knows the
credentials (in a pod its ServiceAccount's, else the kubeconfig's) and renews them. Watching is kopf's.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

TIMEOUT = 10.0
"""Seconds for one request; a usual one takes milliseconds, a page of a list some hundred."""

PAGE = 500
"""Objects in one answer to a list: kubectl's own size."""

MERGE_PATCH = "application/merge-patch+json"

Json = Mapping[str, Any]


class NoCluster(Exception):
    """Neither in a pod, nor is there a kubeconfig that can be used; the text says why."""


class ApiUnavailable(Exception):
    """The API server can't be asked now, or it has a problem of its own."""


class ApiRefused(Exception):
    """The API server's answer is an error: `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects at one resource version."""

    items: list[dict[str, Any]]
    resource_version: str


class ClusterApi:
    """Made by `connect`, ended by `close`."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._client = api_client

    @classmethod
    async def connect(cls) -> "ClusterApi":
        """Raises NoCluster."""
        settings = client.Configuration()
        try:
            config.load_incluster_config(settings)  # type: ignore[no-untyped-call]  # the library's
        except ConfigException:
            # Named here, for the library looks at the variable only once, when it is imported.
            file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
            try:
                await config.load_kube_config(  # type: ignore[no-untyped-call]  # the library's
                    file, client_configuration=settings
                )
            except (ConfigException, OSError) as error:
                raise NoCluster(f"not in a pod, and no usable kubeconfig in {file}: {error}") from error
        return cls(client.ApiClient(settings))

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]  # the library's

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """The decoded answer. Raises ApiUnavailable, ApiRefused."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT)
            text = await response.read()  # type: ignore[no-untyped-call]  # the library's
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise ApiUnavailable(f"{method} {path}: {type(error).__name__}: {error}") from error
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if response.status >= 500 or response.status == 429:
            raise ApiUnavailable(f"{method} {path}: {response.status} {answer.get('message', '')}")
        if response.status >= 400:
            raise ApiRefused(response.status, str(answer.get("message", response.reason)))
        return dict(answer)

    async def list_all(self, path: str, label_selector: str = "") -> Listing:
        """Every object, by pages, all of one moment. Raises ApiUnavailable, ApiRefused."""
        query = {"limit": str(PAGE), **({"labelSelector": label_selector} if label_selector else {})}
        items: list[dict[str, Any]] = []
        while True:
            answer = await self.request("GET", path, query=query)
            items += answer.get("items") or ()
            metadata = answer.get("metadata") or {}
            if not (following := metadata.get("continue")):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            query["continue"] = following
