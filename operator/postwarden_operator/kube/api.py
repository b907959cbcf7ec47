"""REST requests to the API server, through the Kubernetes client's asyncio side.

Contract: plain JSON in and out: its models would cost more than what we read of them. It knows the
credentials (in a pod its ServiceAccount's, else the kubeconfig's) and renews them.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.stream import WsApiClient

TIMEOUT = 10.0
"""Seconds for one request; a usual one takes milliseconds, a page of a list some hundred."""

PAGE = 500
"""Objects in one answer to a list: kubectl's own size."""

GLANCE = 1
"""Seconds that `changes` listens: the shortest that the API server knows. What happened before comes at once."""

GONE = 410
"""HTTP's status for a resource version that is too old."""

GLANCE_TIMEOUT = 4.0
"""Seconds for each of the two requests of `changes`, GLANCE included. Short, for a connection that was kept from an
earlier request may be dead, and only this tells."""

WEB_SOCKET_PING = 20.0
"""Seconds between two pings of a stream: below the minute after which load balancers forget who is silent."""

CLOSE_WITHIN = 1.0
"""Seconds for the other end to answer a stream's close: kubelet answers none for a pod that is gone (measured; aiohttp waits for 10 s)."""

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


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened up to a resource version: type (ADDED, MODIFIED, DELETED) and object, in order."""

    events: list[tuple[str, dict[str, Any]]]
    resource_version: str


class VersionGone(Exception):
    """The API server does not know any more what happened since that version: list anew."""


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
            file = _kubeconfig()
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
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        """The decoded answer. Raises ApiUnavailable, ApiRefused."""
        text = await self._request_text(method, path, body, query, content_type, timeout)
        try:
            return dict(json.loads(text))
        except ValueError:
            return {}

    async def _request_text(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str] | None,
        content_type: str,
        timeout: float,
    ) -> bytes:
        try:
            response = await self._call(method, path, body, query, content_type, timeout)
            text: bytes = await response.read()
        except _TROUBLES as error:
            raise _unavailable(method, path, error) from error
        _raise_refusal(method, path, response, text)
        return text

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str] | None,
        content_type: str,
        timeout: float,
    ) -> aiohttp.ClientResponse:
        """Its head has come. timeout: seconds until the end of its body."""
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*request, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def list_all(
        self, path: str, label_selector: str = "", reduced: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Listing:
        """Every object, by pages, all of one moment. reduced: what is kept of each. Raises ApiUnavailable, ApiRefused."""
        query = {"limit": str(PAGE), **({"labelSelector": label_selector} if label_selector else {})}
        items: list[dict[str, Any]] = []
        while True:
            answer = await self.request("GET", path, query=query)
            items += map(reduced, answer.get("items") or ())
            metadata = answer.get("metadata") or {}
            if not (following := metadata.get("continue")):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            query["continue"] = following

    async def changes(self, path: str, label_selector: str, since: str) -> Changes:
        """All that happened after the resource version `since`, up to now. Raises VersionGone, ApiUnavailable, ApiRefused.

        Two short requests, whatever the number of objects: the version of now, and a watch of GLANCE seconds. The
        first also makes the API server's cache, which serves the second, as new as its answer (Kubernetes 1.31;
        before, the cache is milliseconds behind).
        """
        selected = {"labelSelector": label_selector} if label_selector else {}
        newest = await self.request("GET", path, query={**selected, "limit": "1"}, timeout=GLANCE_TIMEOUT)
        watched = self._watch(path, label_selector, since, GLANCE, GLANCE_TIMEOUT)
        events = [(kind, body) async for kind, body in watched if kind != BOOKMARK]
        return Changes(events, str((newest.get("metadata") or {}).get("resourceVersion", "")))

    def follow(
        self, path: str, label_selector: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What happens after the resource version `since`, as it happens: type (ADDED, MODIFIED, DELETED; BOOKMARK, whose object has
        a version alone) and object. Ends after `seconds`, with a bookmark. Raises VersionGone, ApiUnavailable, ApiRefused; a connection
        that is dead is ApiUnavailable, a little later."""
        return self._watch(path, label_selector, since, seconds, seconds + GLANCE_TIMEOUT)

    @asynccontextmanager
    async def web_socket(
        self, path: str, query: Mapping[str, str], protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection of its own, for what is streamed. A refusal has no message: a handshake tells only its status. Raises
        ApiUnavailable, ApiRefused."""
        async with WsApiClient(  # type: ignore[no-untyped-call]  # the library's
            self._client.configuration, heartbeat=WEB_SOCKET_PING
        ) as sockets:
            try:
                _, url, headers, *_ = await sockets.param_serialize(
                    "GET", path, header_params={}, auth_settings=["BearerToken"]
                )
                opening = await sockets.request(
                    "GET",
                    url,
                    query_params=list(query.items()),
                    headers={**headers, "sec-websocket-protocol": protocol},
                    _preload_content=False,
                )
                opened: aiohttp.ClientWebSocketResponse = await opening
            except aiohttp.WSServerHandshakeError as error:
                if error.status >= 500 or error.status == 429:
                    raise _unavailable("GET", path, error) from error
                raise ApiRefused(error.status, f"GET {path}: {error.message}") from error
            except _TROUBLES as error:
                raise _unavailable("GET", path, error) from error
            try:
                yield opened
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_WITHIN):
                        await opened.close()

    async def _watch(
        self, path: str, label_selector: str, since: str, seconds: int, timeout: float
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(seconds)}
        query |= {
            "allowWatchBookmarks": "true",
            **({"labelSelector": label_selector} if label_selector else {}),
        }
        response: aiohttp.ClientResponse | None = None
        unread = b""
        try:
            response = await self._call("GET", path, None, query, "application/json", timeout)
            if response.status >= 400:
                _raise_refusal("GET", path, response, await response.read())
            # Not line by line: aiohttp bounds a line, and an object may be longer.
            async for part in response.content.iter_any():
                *lines, unread = (unread + part).split(b"\n")
                for line in lines:
                    yield _event(path, line)
        except _TROUBLES as error:
            raise _unavailable("GET", path, error) from error
        except ApiRefused as error:
            if error.status == GONE:
                raise VersionGone(str(error)) from error
            raise
        finally:
            if response is not None:
                response.close()
        if unread:
            yield _event(path, unread)


def default_namespace() -> str:
    """That of the kubeconfig's current context, as with kubectl; `default` where there is none."""
    try:
        _, current = config.list_kube_config_contexts(_kubeconfig())  # type: ignore[no-untyped-call]  # the library's
        return str(current["context"].get("namespace") or "default")
    except (ConfigException, OSError, LookupError, TypeError):
        return "default"


def _kubeconfig() -> str:
    """Looked up here, for the library looks at the variable only once, when it is imported."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


BOOKMARK = "BOOKMARK"
"""A watch's word that it is up to a version."""

_TROUBLES = (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError)


def _unavailable(method: str, path: str, error: BaseException) -> ApiUnavailable:
    return ApiUnavailable(f"{method} {path}: {type(error).__name__}: {error}")


def _raise_refusal(method: str, path: str, response: aiohttp.ClientResponse, text: bytes) -> None:
    if response.status < 400:
        return
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = str(response.reason)
    if response.status >= 500 or response.status == 429:
        raise ApiUnavailable(f"{method} {path}: {response.status} {message}")
    raise ApiRefused(response.status, message)


def _event(path: str, line: bytes) -> tuple[str, dict[str, Any]]:
    """Raises VersionGone, ApiUnavailable."""
    try:
        event = json.loads(line)
    except ValueError as error:
        raise ApiUnavailable(f"GET {path}: the watch ended within a line") from error
    kind, body = event["type"], event["object"]
    if kind == "ERROR":
        if body.get("code") == GONE:
            raise VersionGone(str(body.get("message")))
        raise ApiUnavailable(f"GET {path}: {body.get('code')} {body.get('message', '')}")
    return kind, body
