"""Which policy is in force for which pod: decided pod by pod, the older first, then by name."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from policy.documents import document
from postwarden_operator.compiler import Candidate, Selection, Winners
from postwarden_operator.policy import parse_policy
from postwarden_operator.reconcile.world import Pod


def policy(name: str, day: int | None, selector: object = None, namespace: str = "mail") -> Candidate:
    stored: dict[str, Any] = document({"selector": selector or {}}, name=name, namespace=namespace)
    stored["metadata"]["uid"] = f"uid of {name}"
    if day is not None:
        stored["metadata"]["creationTimestamp"] = f"2026-01-{day:02}T00:00:00Z"
    return Candidate.of(parse_policy(stored, strict=True))


def pod(name: str, namespace: str = "mail", **labels: str) -> Pod:
    return Pod(f"uid of {name}", namespace, name, labels, screened=True)


def winners(candidates: Iterable[Candidate], pods: Iterable[Pod]) -> Selection:
    return Winners()(candidates, pods)


def labelled(**labels: str) -> dict[str, object]:
    return {"matchLabels": labels}


def by_name(selection: Any) -> dict[str, str]:
    return {uid.removeprefix("uid of "): winner.name for uid, winner in selection.winner.items()}


def test_older_policy_wins_whatever_its_name() -> None:
    assert by_name(winners([policy("a", 2), policy("b", 1)], [pod("p")])) == {"p": "b"}


def test_of_equally_old_policies_the_first_by_name_wins() -> None:
    assert by_name(winners([policy("b", 1), policy("a", 1)], [pod("p")])) == {"p": "a"}


def test_policy_of_unknown_age_is_the_youngest() -> None:
    assert by_name(winners([policy("a", None), policy("b", 9)], [pod("p")])) == {"p": "b"}


def test_policies_reach_pods_of_their_own_namespace_only() -> None:
    selection = winners(
        [policy("a", 1, namespace="other"), policy("b", 2)], [pod("p"), pod("q", "other"), pod("r", "third")]
    )
    assert by_name(selection) == {"p": "b", "q": "a"}


def test_conflicts_are_decided_pod_by_pod() -> None:
    old, middle, young = (
        policy("old", 1, labelled(app="x")),
        policy("middle", 2),
        policy("young", 3, labelled(app="x")),
    )
    selection = winners([young, middle, old], [pod("p", app="x"), pod("q", app="y"), pod("r", app="x")])
    assert by_name(selection) == {"p": "old", "q": "middle", "r": "old"}
    assert selection.standing[old].won == ["uid of p", "uid of r"]
    assert selection.standing[middle].matched == ["uid of p", "uid of q", "uid of r"]
    assert selection.standing[middle].won == ["uid of q"]
    assert selection.standing[middle].lost_to == {old: 2}
    assert selection.standing[young].won == []
    assert selection.standing[young].lost_to == {old: 2}


def test_policy_that_matches_no_pod_has_a_standing_all_the_same() -> None:
    candidate = policy("a", 1, labelled(app="x"))
    assert winners([candidate], [pod("p")]).standing[candidate].matched == []


@pytest.mark.parametrize(
    ("operator", "values", "matched"),
    [
        ("In", ["x", "y"], {"p", "q"}),
        ("NotIn", ["x"], {"q", "unlabelled"}),
        ("Exists", [], {"p", "q"}),
        ("DoesNotExist", [], {"unlabelled"}),
    ],
)
def test_expressions_match_as_kubernetes_does(operator: str, values: list[str], matched: set[str]) -> None:
    expression = {"key": "app", "operator": operator, "values": values}
    candidate = policy("a", 1, {"matchExpressions": [expression]})
    assert (
        set(by_name(winners([candidate], [pod("p", app="x"), pod("q", app="y"), pod("unlabelled")])))
        == matched
    )


def test_labels_and_expressions_must_all_match() -> None:
    selector = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}
    candidate = policy("a", 1, selector)
    assert by_name(winners([candidate], [pod("p", app="x"), pod("q", app="x", tier="1")])) == {"q": "a"}


def test_invalid_policy_competes_by_its_selector() -> None:
    invalid: dict[str, Any] = document({"selector": labelled(app="x"), "mode": "nonsense"}, name="bad")
    invalid["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": []}
    candidate = Candidate.of_document(invalid)
    assert candidate is not None
    assert candidate.created == datetime(2026, 1, 1, tzinfo=UTC)
    assert by_name(winners([policy("good", 2), candidate], [pod("p", app="x"), pod("q")])) == {
        "p": "bad",
        "q": "good",
    }


@pytest.mark.parametrize(
    "unreadable",
    [
        {},
        {"spec": 1},
        document({"selector": None}),
        document({"selector": {"matchLabels": 1}}),
        document({}, name="A b"),
    ],
)
def test_document_without_a_readable_selector_does_not_compete(unreadable: dict[str, object]) -> None:
    assert Candidate.of_document(unreadable) is None


def test_nulls_of_an_invalid_policy_count_as_left_out() -> None:
    candidate = Candidate.of_document(document({"selector": {"matchLabels": None}, "mode": 7}))
    assert candidate is not None
    assert candidate.selector.matches({})
