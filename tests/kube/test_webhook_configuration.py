"""caBundle as somebody else writes over it, the CA changes, and the API server refuses."""

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any

import pytest
from kube.api_stand_in import Request, api_stand_in
from kubernetes.aio import client
from postwarden_operator.controlplane.trust import TrustBundle
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi
from postwarden_operator.kube.webhook_configuration import CONFIGURATIONS, WebhookConfiguration

OLD, NEW = TrustBundle(b"old", 1.0), TrustBundle(b"new", 2.0)


@dataclass
class Stored:
    """A configuration of two webhooks."""

    bundles: dict[str, str] = field(default_factory=lambda: {"a": "", "b": OLD.ca_bundle})
    version: int = 1
    refuse: int = 0
    patches: list[Any] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, Any]:
        assert request.path == f"{CONFIGURATIONS}/postwarden"
        if self.refuse:
            return self.refuse, {"message": "no"}
        if request.method == "PATCH":
            assert request.body["metadata"]["resourceVersion"] == str(self.version)
            self.patches.append(request.body)
            self.version += 1
            for webhook in request.body["webhooks"]:
                self.bundles[webhook["name"]] = webhook["clientConfig"]["caBundle"]
        webhooks = [
            {"name": name, "clientConfig": {"caBundle": bundle} if bundle else {"url": "https://x"}}
            for name, bundle in self.bundles.items()
        ]
        return 200, {"metadata": {"resourceVersion": str(self.version)}, "webhooks": webhooks}


async def test_only_what_is_wrong_is_written_and_only_once() -> None:
    stored = Stored()
    async with api_stand_in(stored.answer) as server:
        keeper = WebhookConfiguration(server.api, "postwarden", lambda: OLD, lambda: True)
        await keeper.ensure(OLD)
        await keeper.ensure(OLD)
    (patch,) = stored.patches
    expected = base64.b64encode(b"old").decode()
    assert patch["webhooks"] == [{"name": "a", "clientConfig": {"caBundle": expected}}]


async def test_refusal_is_raised() -> None:
    async with api_stand_in(Stored(refuse=403).answer) as server:
        keeper = WebhookConfiguration(server.api, "postwarden", lambda: OLD, lambda: True)
        with pytest.raises(ApiRefused):
            await keeper.ensure(OLD)


@dataclass
class State:
    bundle: TrustBundle = OLD
    leading: bool = False


class Direct(ClusterApi):
    """Answers without a socket, for virtual time."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(client.ApiClient(client.Configuration(host="http://127.0.0.1:1")))
        self._stored = stored
        self.asked = 0

    async def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        self.asked += 1
        status, answer = self._stored.answer(Request(method, path, {}, body))
        if status >= 500:
            raise ApiUnavailable("503")
        if status >= 400:
            raise ApiRefused(status, answer["message"])
        return dict(answer)


@pytest.mark.looptime
async def test_leader_writes_a_new_ca_at_once_and_mends_within_ten_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored, state = Stored(), State()
    api = Direct(stored)
    keeper = WebhookConfiguration(api, "postwarden", lambda: state.bundle, lambda: state.leading)
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(29)
    assert not stored.patches
    assert not keeper.settled
    await asyncio.sleep(2)
    assert keeper.settled  # sidecars want to be served
    state.leading = True
    await asyncio.sleep(1.1)
    assert set(stored.bundles.values()) == {OLD.ca_bundle}
    state.bundle = NEW
    await asyncio.sleep(1.1)
    assert set(stored.bundles.values()) == {NEW.ca_bundle}
    stored.bundles["a"] = ""  # somebody else
    await asyncio.sleep(11)
    assert set(stored.bundles.values()) == {NEW.ca_bundle}
    stored.refuse, stored.bundles["a"] = 503, ""
    await asyncio.sleep(60)
    assert caplog.text.count("may start unscreened") == 1
    stored.refuse = 0
    await asyncio.sleep(1.1)
    assert set(stored.bundles.values()) == {NEW.ca_bundle}
    task.cancel()
    await asyncio.wait((task,))
    await api.close()


@pytest.mark.looptime
@pytest.mark.parametrize("leading", [True, False])
async def test_readiness_waits_for_the_api_servers_trust(leading: bool) -> None:
    stored = Stored(refuse=503)
    api = Direct(stored)
    keeper = WebhookConfiguration(api, "postwarden", lambda: OLD, lambda: leading)
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(5)
    assert not keeper.settled
    stored.refuse = 0
    if not leading:
        await asyncio.sleep(1.1)
        assert not keeper.settled
        stored.bundles["a"] = OLD.ca_bundle  # by the leader
    await asyncio.sleep(1.1)
    assert keeper.settled
    asked = api.asked
    await asyncio.sleep(8)
    assert api.asked == asked
    task.cancel()
    await asyncio.wait((task,))
    await api.close()
