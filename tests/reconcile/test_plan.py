"""From a World to outcomes and wishes: what each pod is to have, and why."""

import re
from typing import Any

import pytest
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.compiler import NotLabelled
from postwarden_operator.controlplane.wanted import Held, Managed, Unmanaged, Wanted, managed
from postwarden_operator.reconcile import compilation
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import Outcome, plan
from postwarden_operator.reconcile.world import Pod, World

HOST_BITS = {"rules": [{"action": "Reject", "cidrs": ["10.0.0.1/8"]}]}


def document(name: str = "wall", *, created: int = 1, namespace: str = "mail", **spec: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "generation": 3,
        "creationTimestamp": f"2026-01-{created:02}T00:00:00Z",
    }
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": metadata,
        "spec": {"selector": {}, **spec},
    }


def listed(name: str) -> dict[str, Any]:
    return {
        "rules": [{"action": "Reject", "listFrom": {"configMapKeyRef": {"name": name, "key": "networks"}}}]
    }


def pod(number: int = 0, *, namespace: str = "mail", screened: bool = True, **labels: str) -> Pod:
    return Pod(f"pod-{number}", namespace, f"mta-{number}", labels, screened)


def planned(world: World) -> tuple[dict[str, Outcome], dict[str, Wanted]]:
    result = plan(world, Compiler(strict=False))
    return {outcome.name: outcome for outcome in result.outcomes}, dict(result.wanted)


def test_pod_without_a_policy_is_unmanaged_and_so_is_one_in_another_namespace() -> None:
    _, wanted = planned(World((document(namespace="other"),), (pod(),)))
    assert wanted == {"pod-0": Unmanaged()}


def test_policy_is_wanted_of_the_pods_that_it_selects() -> None:
    policy = document(selector={"matchLabels": {"app": "mail"}}, upstream={"handoff": "ProxyV2"})
    outcomes, wanted = planned(World((policy,), (pod(0, app="mail"), pod(1, app="web"))))
    managed = wanted["pod-0"]
    assert isinstance(managed, Managed)
    snapshot = managed.snapshot
    assert (snapshot.policy_uid, snapshot.namespace, snapshot.name) == ("uid-wall", "mail", "wall")
    assert (snapshot.generation, snapshot.format) == (3, "rules/1")
    assert snapshot.revision == outcomes["wall"].revision
    assert wanted["pod-1"] == Unmanaged()
    assert outcomes["wall"].accepted.reason == "Valid"
    assert outcomes["wall"].screened == {"pod-0": "mta-0"}


def test_pod_that_carries_no_sidecar_is_wanted_but_not_counted() -> None:
    outcomes, wanted = planned(World((document(),), (pod(screened=False),)))
    assert isinstance(wanted["pod-0"], Managed)
    assert outcomes["wall"].screened == {}


def test_invalid_policy_holds_its_pods_with_the_field_path_and_harms_no_other() -> None:
    mine, other = {"matchLabels": {"tier": "a"}}, {"matchLabels": {"tier": "b"}}
    policies = (document("bad", selector=mine, access=HOST_BITS), document("good", selector=other))
    outcomes, wanted = planned(World(policies, (pod(0, tier="a"), pod(1, tier="b"))))
    held = wanted["pod-0"]
    assert isinstance(held, Held)
    assert "mail/bad: spec.access.rules[0].cidrs[0]: 10.0.0.1/8" in held.reason
    assert isinstance(wanted["pod-1"], Managed)
    assert outcomes["bad"].accepted.reason == "Invalid"
    assert outcomes["bad"].accepted.message.startswith("spec.access.rules[0].cidrs[0]: 10.0.0.1/8")
    assert outcomes["bad"].revision is None


def test_invalid_older_policy_holds_pods_that_a_younger_would_win() -> None:
    policies = (document("older", created=1, access=HOST_BITS), document("younger", created=2))
    outcomes, wanted = planned(World(policies, (pod(),)))
    assert isinstance(wanted["pod-0"], Held)
    assert outcomes["younger"].accepted.reason == "Conflicted"


def test_policy_with_a_selector_that_cannot_be_read_holds_rather_than_lets_go() -> None:
    broken = document(selector={"matchExpressions": [{"key": "app", "operator": "Like"}]})
    _, wanted = planned(World((broken,), (pod(),)))
    assert isinstance(wanted["pod-0"], Held)


def test_older_policy_wins_and_the_younger_says_by_whom_it_lost_how_many() -> None:
    policies = (
        document("b-older", created=1, selector={"matchLabels": {"app": "mail"}}),
        document("a-younger", created=2),
    )
    outcomes, wanted = planned(World(policies, (pod(0, app="mail"), pod(1, app="mail"), pod(2))))
    assert [each.snapshot.name for each in wanted.values() if isinstance(each, Managed)] == [
        "b-older",
        "b-older",
        "a-younger",
    ]
    assert outcomes["b-older"].accepted.reason == "Valid"
    assert outcomes["a-younger"].accepted.reason == "PartlyConflicted"
    assert "mail/b-older (2 pods)" in outcomes["a-younger"].accepted.message
    assert not outcomes["a-younger"].conflicted


def test_list_that_is_missing_holds_and_is_a_matter_of_references() -> None:
    outcomes, wanted = planned(World((document(access=listed("zombies")),), (pod(),)))
    assert isinstance(wanted["pod-0"], Held)
    assert outcomes["wall"].accepted.reason == "Valid"
    assert outcomes["wall"].compilation.resolved.reason == "RefNotFound"
    assert "zombies" in outcomes["wall"].compilation.resolved.message


def test_list_without_the_label_is_told_apart_from_a_missing_one() -> None:
    world = World((document(access=listed("zombies")),), (pod(),), {("mail", "zombies"): NotLabelled()})
    assert planned(world)[0]["wall"].compilation.resolved.reason == "RefNotLabelled"


def test_config_map_of_another_namespace_does_not_count() -> None:
    world = World(
        (document(access=listed("zombies")),),
        (pod(),),
        {("other", "zombies"): {"networks": b"192.0.2.0/24\n"}},
    )
    assert planned(world)[0]["wall"].compilation.resolved.reason == "RefNotFound"


def test_changed_list_is_another_revision_and_an_unchanged_world_the_same_wish() -> None:
    compiler = Compiler(strict=False)

    def with_list(content: bytes) -> Wanted:
        lists = {("mail", "zombies"): {"networks": content}}
        return plan(World((document(access=listed("zombies")),), (pod(),), lists), compiler).wanted["pod-0"]

    first, same, changed = (
        with_list(each) for each in (b"192.0.2.0/24", b"192.0.2.0/24", b"198.51.100.0/24")
    )
    assert isinstance(first, Managed)
    assert isinstance(changed, Managed)
    # The very same object: it was not compiled again.
    assert same is first
    assert changed.revision != first.revision


def test_status_in_the_document_leads_to_no_new_compilation() -> None:
    compiler = Compiler(strict=False)
    first, second = (
        plan(World(({**document(), "status": {"n": n}},), (pod(),)), compiler).wanted["pod-0"] for n in (1, 2)
    )
    assert first is second


def test_what_does_not_fit_into_a_snapshot_is_told_and_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = World(
        (document(access=listed("zombies")),),
        (pod(),),
        {("mail", "zombies"): {"networks": b"192.0.2.0/24\n"}},
    )
    monkeypatch.setattr(compilation, "LARGEST_SNAPSHOT", 100)
    outcomes, wanted = planned(now)
    assert isinstance(wanted["pod-0"], Held)
    assert outcomes["wall"].compilation.resolved.reason == "BadList"
    assert re.search(
        r"^spec.access.rules: the rules name \d tables and have \d+ bytes by that, more than the 100 that a sidecar is sent at once; "
        "take lists or networks out$",
        outcomes["wall"].compilation.resolved.message,
    )
    monkeypatch.setattr(compilation, "LARGEST_BLOBS", 20)
    assert "a sidecar takes 0; take networks out" in planned(now)[0]["wall"].compilation.resolved.message


def test_tables_travel_inside_the_snapshot_while_all_are_small_and_the_tiny_ones_always() -> None:
    def sent(*sizes: int) -> list[bool]:
        blobs = [(f"{at:02}", "iv4/1", bytes(size)) for at, size in enumerate(sizes)]
        return [bool(blob.data) for blob in managed(pb.Snapshot(), blobs).snapshot.blobs]

    assert sent(30_000, 30_000) == [True, True]
    assert sent(30_000, 40_000, 39) == [False, False, True]
    assert sent(*[4_000] * 20) == [True] * 16 + [False] * 4
