"""The cluster is followed whatever becomes of the watch and of the API server. In virtual time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from kube.memory_cluster import MemoryCluster, MemoryWatch
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable
from postwarden_operator.kube.follower import BEYOND_REMEDY, CHECK, RESYNC, Follower
from postwarden_operator.kube.freshness import GRACE, LIMIT, SETTLE
from postwarden_operator.kube.store import Kind, Store

pytestmark = pytest.mark.looptime

MUCH_LATER = 1200.0


class Scene:
    """changes: how often a reconcile was asked for."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.store = Store()
        self.changes = 0
        self.running: asyncio.Task[None] | None = None
        self.follower = Follower(self.cluster, self.store, self.cluster.watch, self._changed)

    def begin(self) -> None:
        self.running = asyncio.create_task(self.follower.run())

    async def settle(self) -> None:
        """Until one policy was read, and the watch owes what happens from now on."""
        self.cluster.put(Kind.POLICY, "wall", spec={})
        self.begin()
        await asyncio.sleep(SETTLE + 1)

    @property
    def watch(self) -> MemoryWatch:
        return self.cluster.watches[0]

    def _changed(self) -> None:
        self.changes += 1

    def policies(self) -> list[str]:
        return [policy.document["metadata"]["name"] for policy in self.store.policies]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Not begun: time is virtual in the tests only."""
    scene = Scene()
    yield scene
    assert scene.running is not None
    assert not scene.running.done(), "whatever happens, it goes on"
    scene.running.cancel()
    await asyncio.gather(scene.running, return_exceptions=True)


async def test_cluster_that_is_heard_is_known_without_a_doubt_and_listed_rarely(scene: Scene) -> None:
    await scene.settle()
    assert scene.store.complete
    assert scene.follower.doubt is None
    assert scene.policies() == ["wall"]
    listed = scene.cluster.lists
    await asyncio.sleep(RESYNC / 2)
    assert scene.cluster.lists == listed
    await asyncio.sleep(RESYNC)
    assert scene.cluster.lists == listed + len(Kind)


async def test_what_the_watch_tells_is_known_at_once(scene: Scene) -> None:
    await scene.settle()
    before = scene.changes
    scene.cluster.put(Kind.POLICY, "other", spec={})
    assert scene.policies() == ["wall", "other"]
    assert scene.changes == before + 1
    await asyncio.sleep(MUCH_LATER)
    assert scene.changes == before + 1, "what is read beside the watch is no change"
    assert scene.watch.begun == 1


async def test_watch_that_falls_silent_costs_one_check_and_begins_anew(scene: Scene) -> None:
    await scene.settle()
    scene.watch.silent = True
    scene.cluster.put(Kind.POLICY, "other", spec={})
    scene.cluster.delete(Kind.POLICY, "wall")
    await asyncio.sleep(CHECK + 0.1)
    assert scene.policies() == ["other"]
    assert scene.watch.begun == 1
    await asyncio.sleep(GRACE + 2)
    assert scene.watch.begun == 2
    scene.cluster.put(Kind.POLICY, "third", spec={})
    assert scene.policies() == ["other", "third"]
    await asyncio.sleep(MUCH_LATER)
    assert scene.watch.begun == 2
    assert not scene.follower.beyond_remedy


async def test_watch_that_stays_silent_is_beyond_remedy_in_the_end_and_changes_still_arrive(
    scene: Scene,
) -> None:
    await scene.settle()
    scene.watch.silent = scene.watch.silent_for_good = True
    for number in range(2 * BEYOND_REMEDY):
        scene.cluster.put(Kind.POLICY, f"p{number}", spec={})
        await asyncio.sleep(SETTLE + CHECK + GRACE + 2)
        assert f"p{number}" in scene.policies()
    assert scene.follower.beyond_remedy
    scene.watch.silent_for_good = False
    scene.watch.ends()
    await asyncio.sleep(10)
    assert not scene.follower.beyond_remedy


async def test_watch_that_ends_begins_anew(scene: Scene) -> None:
    await scene.settle()
    scene.watch.ends()
    await asyncio.sleep(10)
    assert scene.watch.begun == 2
    scene.cluster.put(Kind.POLICY, "other", spec={})
    assert "other" in scene.policies()


@pytest.mark.parametrize(
    "failure",
    [ApiUnavailable("500 etcd has no leader"), ApiRefused(403, "may not list"), ValueError("nonsense")],
    ids=["away", "refused", "not understood"],
)
async def test_api_server_that_fails_for_long_leaves_what_is_known_and_a_doubt(
    scene: Scene, failure: Exception
) -> None:
    await scene.settle()
    before = scene.changes
    scene.cluster.failing = failure
    await asyncio.sleep(LIMIT - CHECK - 1)
    assert scene.follower.doubt is None
    await asyncio.sleep(CHECK + 3)
    assert scene.follower.doubt is not None
    assert scene.changes == before + 1, "the doubt wants a reconcile"
    scene.watch.silent = True
    scene.cluster.delete(Kind.POLICY, "wall")
    await asyncio.sleep(MUCH_LATER)
    assert scene.policies() == ["wall"]
    assert not scene.follower.beyond_remedy
    scene.cluster.failing = None
    await asyncio.sleep(3)
    assert scene.follower.doubt is None
    assert scene.policies() == []


async def test_pods_are_told_at_once_without_kopf_and_not_listed_again(scene: Scene) -> None:
    scene.cluster.put(
        Kind.POD, "mta-0", spec={"containers": [{"name": "postwarden-sidecar"}]}, status={"phase": "Running"}
    )
    await scene.settle()
    scene.watch.silent = True
    lists, before = scene.cluster.lists, scene.changes
    scene.cluster.put(Kind.POD, "mta-1")
    scene.cluster.delete(Kind.POD, "mta-0")
    await asyncio.sleep(0.1)
    assert [pod.name for pod in scene.store.pods] == ["mta-1"]
    assert scene.changes > before
    await asyncio.sleep(MUCH_LATER)
    assert (scene.cluster.lists, scene.watch.begun) == (lists, 1)
    assert scene.follower.doubt is None


async def test_watch_of_pods_that_fails_goes_on_where_it_was(scene: Scene) -> None:
    await scene.settle()
    lists = scene.cluster.lists
    scene.cluster.failing = ApiUnavailable("the connection is dead")
    await asyncio.sleep(2 * CHECK)
    scene.cluster.put(Kind.POD, "mta-0")
    scene.cluster.failing = None
    await asyncio.sleep(3)
    assert [pod.name for pod in scene.store.pods] == ["mta-0"]
    assert scene.cluster.lists == lists


async def test_version_that_the_api_server_has_forgotten_leads_to_a_list(scene: Scene) -> None:
    await scene.settle()
    scene.watch.silent = True
    scene.cluster.put(Kind.POLICY, "other", spec={})
    scene.cluster.delete(Kind.POLICY, "wall")
    scene.cluster.oldest = scene.cluster.version
    await asyncio.sleep(CHECK + 0.1)
    assert scene.policies() == ["other"]
    assert scene.follower.doubt is None


async def test_nothing_is_certain_until_every_kind_was_read(scene: Scene) -> None:
    scene.cluster.failing = ApiUnavailable("connection refused")
    scene.begin()
    await asyncio.sleep(MUCH_LATER)
    assert not scene.store.complete
    assert scene.follower.doubt is not None
    assert scene.watch.begun == 0
    scene.cluster.failing = None
    await asyncio.sleep(2)
    assert scene.store.complete
    assert scene.follower.doubt is None


async def test_api_server_that_is_away_for_an_hour_is_a_line_a_kind(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.settle()
    scene.cluster.failing = ApiUnavailable("connection refused")
    await asyncio.sleep(3600.0)
    said = [record for record in caplog.records if "can't be read" in record.message]
    assert len(said) == len(Kind)
