"""When a status is written, by whom, and over what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from eventually import until
from kube.api_stand_in import ApiStandIn, Request, api_stand_in
from postwarden_operator.controlplane.peer_state import PeerState
from postwarden_operator.controlplane.subscription import State, SyncState
from postwarden_operator.kube import status_writer
from postwarden_operator.kube.objects import CurrentStatus
from postwarden_operator.kube.status_writer import StatusWriter
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import plan
from postwarden_operator.reconcile.world import Pod, World

DOCUMENT = {
    "apiVersion": "postwarden.dev/v1alpha1",
    "kind": "ScreeningPolicy",
    "metadata": {"name": "wall", "namespace": "mail", "uid": "u", "generation": 1},
    "spec": {"selector": {}},
}
PLAN = plan(World((DOCUMENT,), (Pod("pod-1", "mail", "mta-0", {}, True),)), Compiler(strict=False))
REVISION = PLAN.outcomes[0].revision or ""


def sidecar(state: State) -> PeerState:
    return PeerState("u", REVISION, SyncState(state), 1.0)


@dataclass
class Cluster:
    """The one policy, as the API server stores it and as the watch tells of it; its writes are held back while `quiet`."""

    status: dict[str, Any] = field(default_factory=dict)
    version: int = 7
    told: CurrentStatus = field(default_factory=lambda: CurrentStatus({}, 7))
    quiet: bool = False
    states: dict[str, PeerState] = field(default_factory=dict)
    leads: bool = True
    expiry: float | None = None

    def patch(self, request: Request) -> tuple[int, dict[str, Any]]:
        if request.body["metadata"]["resourceVersion"] != str(self.version):
            return 409, {"message": "the object has been modified"}
        self.write(request.body["status"])
        return 200, {"metadata": {"resourceVersion": str(self.version)}}

    def write(self, status: dict[str, Any]) -> None:
        """Somebody did."""
        self.version += 1
        self.status = status
        if not self.quiet:
            self.tell()

    def tell(self) -> None:
        self.told = CurrentStatus(self.status, self.version)

    def condition(self, kind: str) -> str:
        found = {each["type"]: each for each in self.status.get("conditions", ())}
        return f"{found[kind]['status']}/{found[kind]['reason']}" if kind in found else ""

    @property
    def summary(self) -> str:
        return str(self.status.get("sidecars", {}).get("summary", ""))


@asynccontextmanager
async def writing(
    cluster: Cluster, *, interval: float = 0.0
) -> AsyncIterator[tuple[StatusWriter, ApiStandIn]]:
    async with api_stand_in(cluster.patch) as stand_in:
        writer = StatusWriter(
            stand_in.api,
            cluster.states.get,
            lambda uid: cluster.told,
            lambda: (("pod-1",), cluster.expiry),
            may_write=lambda: cluster.leads,
            quiet=0,
            interval=interval,
        )
        running = asyncio.create_task(writer.run())
        try:
            yield writer, stand_in
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_status_is_written_once_with_the_uid_and_again_only_when_it_changes() -> None:
    cluster = Cluster(states={"pod-1": sidecar(State.PENDING)})
    async with writing(cluster) as (writer, stand_in):
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "0/1")
        writer.mark_dirty()  # nothing changed in truth
        cluster.states["pod-1"] = sidecar(State.SYNCED)
        writer.mark_dirty()
        await until(lambda: cluster.summary == "1/1")
    first, _second = stand_in.requests
    assert (first.method, first.path) == (
        "PATCH",
        "/apis/postwarden.dev/v1alpha1/namespaces/mail/screeningpolicies/wall/status",
    )
    assert first.body["metadata"] == {"uid": "u", "resourceVersion": "7"}


async def test_watch_that_is_late_with_our_own_write_makes_no_second_one() -> None:
    cluster = Cluster(quiet=True, states={"pod-1": sidecar(State.PENDING)})
    async with writing(cluster) as (writer, stand_in):
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "0/1")
        writer.publish(PLAN)
        cluster.states["pod-1"] = sidecar(State.SYNCED)
        writer.mark_dirty()
        await until(lambda: cluster.summary == "1/1")
        assert [request.body["metadata"]["resourceVersion"] for request in stand_in.requests] == ["7", "8"]


async def test_replica_that_does_not_lead_writes_nothing_until_it_does() -> None:
    cluster = Cluster(leads=False, states={"pod-1": sidecar(State.SYNCED)})
    async with writing(cluster) as (writer, stand_in):
        writer.publish(PLAN)
        for _ in range(10):
            await asyncio.sleep(0)
        assert stand_in.requests == []
        cluster.leads = True
        writer.take_over(30.0)
        await until(lambda: cluster.summary == "1/1")
    assert cluster.condition("Programmed") == "True/Synced"


async def test_new_leader_that_has_not_heard_of_every_sidecar_keeps_the_counts_and_says_unknown() -> None:
    cluster = Cluster(states={"pod-1": sidecar(State.SYNCED)})
    async with writing(cluster) as (writer, _):
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "1/1")
        cluster.states.clear()
        writer.take_over(0.3)
        await until(lambda: cluster.condition("Programmed") == "Unknown/LeaderChanged")
        assert cluster.summary == "1/1"
        # Nothing else happens: it looks again by itself.
        await until(lambda: cluster.condition("Programmed") == "False/Pending")
    assert cluster.status["sidecars"]["disconnected"] == 1


async def test_what_another_wrote_meanwhile_is_not_overwritten_unseen() -> None:
    cluster = Cluster(quiet=True, states={"pod-1": sidecar(State.SYNCED)})
    cluster.write({"revision": "another replica's"})
    async with writing(cluster) as (writer, stand_in):
        writer.publish(PLAN)
        await until(lambda: stand_in.requests)
        assert cluster.status == {"revision": "another replica's"}
        cluster.tell()
        await until(lambda: cluster.summary == "1/1")


async def test_conflicts_that_go_on_are_tried_again_ever_later() -> None:
    cluster = Cluster(quiet=True, states={"pod-1": sidecar(State.SYNCED)})
    cluster.write({})
    async with writing(cluster) as (writer, stand_in):
        loop = asyncio.get_running_loop()
        began = loop.time()
        writer.publish(PLAN)
        while len(stand_in.requests) < 3:
            writer.mark_dirty()  # sidecars answer all the time
            await asyncio.sleep(0.005)
        assert loop.time() - began >= 0.2 + 0.4


async def test_word_that_runs_out_is_noticed_without_any_event() -> None:
    cluster = Cluster(states={"pod-1": sidecar(State.SYNCED)})
    async with writing(cluster) as (writer, _):
        cluster.expiry = asyncio.get_running_loop().time() + 0.1
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "1/1")
        cluster.states.clear()
        await until(lambda: cluster.summary == "0/1")
        cluster.expiry = None


async def test_what_somebody_else_wrote_over_a_status_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "LOOK_AGAIN", 0.05)
    cluster = Cluster(states={"pod-1": sidecar(State.SYNCED)})
    async with writing(cluster) as (writer, stand_in):
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "1/1")
        cluster.write({"sidecars": {"summary": "7/7"}})
        await until(lambda: cluster.summary == "1/1")
    assert len(stand_in.requests) == 2


async def test_policy_whose_object_is_as_it_was_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_writer, "LOOK_AGAIN", 0.01)
    asked: list[str] = []
    looks: list[str] = []
    cluster = Cluster(states={"pod-1": sidecar(State.SYNCED)})
    async with api_stand_in(cluster.patch) as stand_in:

        def state(uid: str) -> PeerState | None:
            asked.append(uid)
            return cluster.states.get(uid)

        def current(uid: str) -> CurrentStatus:
            looks.append(uid)
            return cluster.told

        writer = StatusWriter(stand_in.api, state, current, lambda: ((), None), quiet=0)
        running = asyncio.create_task(writer.run())
        writer.publish(PLAN)
        await until(lambda: cluster.summary == "1/1")
        asked.clear()
        looks.clear()
        await until(lambda: len(looks) > 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert asked == []
