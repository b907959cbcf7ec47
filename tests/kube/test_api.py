"""REST through the Kubernetes client: pages, errors, unlabelled ConfigMaps."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from kube.api_stand_in import Request, api_stand_in
from kubernetes.aio import client
from postwarden_operator.compiler import NotLabelled
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi, VersionGone
from postwarden_operator.kube.references import References, Unwatched


def document(list_name: str = "") -> dict[str, Any]:
    rule = {"action": "Reject", "listFrom": {"configMapKeyRef": {"name": list_name, "key": "k"}}}
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": {"name": "wall", "namespace": "mail", "uid": "u", "generation": 1},
        "spec": {"selector": {}, "access": {"rules": [rule] if list_name else []}},
    }


async def test_list_is_read_page_by_page() -> None:
    def pages(request: Request) -> tuple[int, dict[str, Any]]:
        assert request.query["labelSelector"] == "a=b"
        if "continue" not in request.query:
            return 200, {"items": [{"n": 1}], "metadata": {"resourceVersion": "7", "continue": "more"}}
        assert request.query["continue"] == "more"
        return 200, {"items": [{"n": 2}], "metadata": {"resourceVersion": "7"}}

    async with api_stand_in(pages) as stand_in:
        listing = await stand_in.api.list_all("/api/v1/pods", "a=b")
    assert (listing.items, listing.resource_version) == ([{"n": 1}, {"n": 2}], "7")


async def test_refusals_and_troubles_of_the_server_are_told_apart() -> None:
    statuses = {"/refused": 404, "/busy": 429, "/broken": 500}
    async with api_stand_in(lambda request: (statuses[request.path], {"message": "why"})) as stand_in:
        with pytest.raises(ApiRefused, match="404: why"):
            await stand_in.api.request("GET", "/refused")
        for path in ("/busy", "/broken"):
            with pytest.raises(ApiUnavailable, match="why"):
                await stand_in.api.request("GET", path)


def watched(*lines: str, newest: str = "12") -> Callable[[Request], tuple[int, Any]]:
    """Answers of an API server whose newest version is that, and whose watch tells these lines."""

    def answer(request: Request) -> tuple[int, Any]:
        if "watch" not in request.query:
            assert request.query == {"limit": "1", "labelSelector": "a=b"}
            return 200, {"items": [{"n": 1}], "metadata": {"resourceVersion": newest, "continue": "more"}}
        expected = {
            "watch": "true",
            "resourceVersion": "7",
            "timeoutSeconds": "1",
            "allowWatchBookmarks": "true",
            "labelSelector": "a=b",
        }
        assert request.query == expected
        return 200, "".join(lines)

    return answer


async def test_changes_since_a_version_are_read_in_order_up_to_the_newest() -> None:
    lines = ('{"type": "MODIFIED", "object": {"n": 1}}\n', '{"type": "BOOKMARK", "object": {}}\n')
    async with api_stand_in(watched(*lines, '{"type": "DELETED", "object": {"n": 2}}\n')) as stand_in:
        changes = await stand_in.api.changes("/api/v1/pods", "a=b", "7")
    assert changes.events == [("MODIFIED", {"n": 1}), ("DELETED", {"n": 2})]
    assert changes.resource_version == "12"


async def test_no_changes_are_no_events_and_a_newer_version() -> None:
    async with api_stand_in(watched()) as stand_in:
        changes = await stand_in.api.changes("/api/v1/pods", "a=b", "7")
    assert (changes.events, changes.resource_version) == ([], "12")


async def test_version_that_is_gone_is_told_apart_whether_as_status_or_in_the_stream() -> None:
    gone = '{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}\n'
    async with api_stand_in(watched(gone)) as stand_in:
        with pytest.raises(VersionGone, match="too old"):
            await stand_in.api.changes("/api/v1/pods", "a=b", "7")

    def refused(request: Request) -> tuple[int, dict[str, Any]]:
        return (410, {"message": "too old"}) if "watch" in request.query else (200, {})

    async with api_stand_in(refused) as stand_in:
        with pytest.raises(VersionGone, match="too old"):
            await stand_in.api.changes("/api/v1/pods", "a=b", "7")


@pytest.mark.parametrize(
    "line", ['{"type": "ERROR", "object": {"code": 500, "message": "broken"}}\n', '{"type": "MODI']
)
async def test_watch_that_breaks_is_an_api_server_that_is_away(line: str) -> None:
    async with api_stand_in(watched(line)) as stand_in:
        with pytest.raises(ApiUnavailable, match=r"broken|within a line"):
            await stand_in.api.changes("/api/v1/pods", "a=b", "7")


async def test_server_that_is_not_there_is_unavailable() -> None:
    api = ClusterApi(client.ApiClient(client.Configuration(host="http://127.0.0.1:1")))
    with pytest.raises(ApiUnavailable):
        await api.request("GET", "/")
    await api.close()


async def test_config_maps_that_exist_but_are_not_watched_are_found_and_asked_for_once() -> None:
    def found(request: Request) -> tuple[int, dict[str, Any]]:
        return (200 if request.path.endswith("/plain") else 404), {}

    async with api_stand_in(found) as stand_in:
        unwatched = Unwatched(stand_in.api, References())
        for _ in range(2):
            documents = [document("plain"), document("absent"), document("watched")]
            for number, each in enumerate(documents):
                each["metadata"]["uid"] = f"u{number}"
            result = await unwatched.find(documents, [("mail", "watched")])
            assert result == {("mail", "plain"): NotLabelled()}
        assert sorted(request.path for request in stand_in.requests) == [
            "/api/v1/namespaces/mail/configmaps/absent",
            "/api/v1/namespaces/mail/configmaps/plain",
        ]


async def test_watch_tells_each_event_as_it_comes_and_where_it_is() -> None:
    events = [
        {"type": "ADDED", "object": {"metadata": {"resourceVersion": "8"}, "spec": "x" * 200_000}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
    ]

    def answer(request: Request) -> tuple[int, Any]:
        assert (request.query["resourceVersion"], request.query["timeoutSeconds"]) == ("7", "30")
        return 200, "".join(json.dumps(event) + "\n" for event in events)

    async with api_stand_in(answer) as stand_in:
        heard = [event async for event in stand_in.api.follow("/api/v1/pods", "", "7", 30)]
    assert heard == [(event["type"], event["object"]) for event in events]


async def test_watch_of_a_version_that_is_gone_says_so() -> None:
    async with api_stand_in(lambda request: (410, {"message": "too old"})) as stand_in:
        with pytest.raises(VersionGone, match="too old"):
            await anext(stand_in.api.follow("/api/v1/pods", "", "7", 30))
