"""What is known of the cluster after events and lists, in whatever order they come."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from postwarden_operator.kube.api import Listing
from postwarden_operator.kube.objects import config_map_of, pod_of
from postwarden_operator.kube.store import Kind, Store


def policy(version: int, *, generation: int = 1, status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {
        "name": "wall",
        "namespace": "mail",
        "uid": "policy-1",
        "generation": generation,
        "resourceVersion": str(version),
        "managedFields": [{"manager": "kubectl", "version": version}],
    }
    return {
        "kind": "ScreeningPolicy",
        "metadata": metadata,
        "spec": {"n": generation},
        "status": status or {},
    }


def pod(version: int, uid: str = "pod-1", phase: str = "Running", **metadata: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "mta-0",
            "namespace": "mail",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"app": "mail"},
            **metadata,
        },
        "spec": {"containers": [{"name": "mta"}], "initContainers": [{"name": "postwarden-sidecar"}]},
        "status": {"phase": phase},
    }


def config_map(version: int, uid: str, content: str) -> dict[str, Any]:
    metadata = {"name": "lists", "namespace": "mail", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "data": {"bad": content}}


def listing(version: int, *items: dict[str, Any]) -> Listing:
    return Listing(list(items), str(version))


def test_world_is_complete_only_after_every_kind_was_listed() -> None:
    store = Store()
    assert store.heard(Kind.POLICY, policy(1), deleted=False)
    assert not store.complete
    store.listed(Kind.POLICY, listing(5, policy(1)))
    store.listed(Kind.POD, listing(5))
    assert not store.complete
    assert store.listed(Kind.CONFIG_MAP, listing(5))
    assert store.complete


def test_written_status_is_no_change_and_is_known_all_the_same() -> None:
    store = Store()
    store.heard(Kind.POLICY, policy(1), deleted=False)
    assert not store.heard(Kind.POLICY, policy(2, status={"revision": "r"}), deleted=False)
    current = store.policy_status("policy-1")
    assert current is not None
    assert current.status == {"revision": "r"}
    assert store.heard(Kind.POLICY, policy(3, generation=2), deleted=False)


def test_older_news_is_dropped() -> None:
    store = Store()
    store.heard(Kind.POLICY, policy(7, generation=2), deleted=False)
    assert not store.heard(Kind.POLICY, policy(6, generation=1), deleted=False)
    assert store.policies[0].document["spec"] == {"n": 2}


def test_list_takes_away_what_was_deleted_while_nobody_watched() -> None:
    store = Store()
    store.heard(Kind.POD, pod(3), deleted=False)
    assert store.listed(Kind.POD, listing(9))
    assert store.pod("pod-1") is None


def test_list_from_before_a_deletion_does_not_bring_the_object_back() -> None:
    store = Store()
    store.heard(Kind.POD, pod(3), deleted=False)
    store.heard(Kind.POD, pod(8), deleted=True)
    assert not store.listed(Kind.POD, listing(5, pod(3)))
    assert store.pods == ()


def test_pods_are_the_same_object_until_one_is_another() -> None:
    store = Store()
    store.heard(Kind.POD, pod(3), deleted=False)
    first = store.pods
    store.heard(Kind.POD, pod(4), deleted=False)  # a change of what is not read
    assert store.pods is first
    store.heard(Kind.POD, pod(5, phase="Failed"), deleted=False)
    assert store.pods is not first
    assert [each.screened for each in store.pods] == [False]


def test_list_from_before_a_creation_does_not_take_the_object_away() -> None:
    store = Store()
    store.heard(Kind.POD, pod(8), deleted=False)
    store.listed(Kind.POD, listing(5))
    assert store.pod("pod-1") is not None


def test_config_map_that_was_made_anew_counts_by_its_younger_self() -> None:
    store = Store()
    store.heard(Kind.CONFIG_MAP, config_map(8, "b", "new"), deleted=False)
    store.heard(Kind.CONFIG_MAP, config_map(3, "a", "old"), deleted=False)
    assert store.config_maps() == {("mail", "lists"): {"bad": b"new"}}


def test_pod_is_screened_while_it_runs_and_carries_our_container() -> None:
    assert pod_of(pod(1)).screened
    assert not pod_of(pod(1, phase="Pending")).screened
    assert not pod_of(pod(1, deletionTimestamp="2026-01-01T00:00:00Z")).screened
    assert not pod_of({**pod(1), "spec": {"containers": [{"name": "mta"}]}}).screened


def test_binary_data_is_decoded() -> None:
    body = {"metadata": {}, "data": {"a": "text"}, "binaryData": {"b": "AAE="}}
    assert config_map_of(body) == {"a": b"text", "b": b"\x00\x01"}


HISTORY = st.lists(st.sampled_from(["put", "delete"]), min_size=1, max_size=6)


@given(HISTORY, st.data())
def test_any_mix_of_lists_and_late_events_ends_with_what_the_cluster_has(
    history: list[str], data: st.DataObject
) -> None:
    """The watch tells everything in order, or, where it began anew, leaves out deletions.

    Lists come between.
    """
    store, now = Store(), Store()
    present: dict[str, Any] | None = None
    for version, step in enumerate(history, 1):
        before, present = present, pod(version) if step == "put" else None
        if present is not None:
            store.heard(Kind.POD, present, deleted=False)
        elif before is not None and data.draw(st.booleans(), label="the watch tells of the deletion"):
            store.heard(
                Kind.POD,
                {**before, "metadata": {**before["metadata"], "resourceVersion": str(version)}},
                deleted=True,
            )
        if data.draw(st.booleans(), label="a list made before this step arrives after it") and version > 1:
            store.listed(Kind.POD, listing(version - 1, *([before] if before is not None else [])))
    store.listed(Kind.POD, listing(len(history), *([present] if present is not None else [])))
    now.listed(Kind.POD, listing(len(history), *([present] if present is not None else [])))
    assert store.pods == now.pods
