"""A Planner remembers, and what it says is what a new one would say; what did not change is the same object again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from postwarden_operator.controlplane.wanted import Held, Managed, Wanted
from postwarden_operator.reconcile.compilation import Compiler
from postwarden_operator.reconcile.plan import Outcome, Plan, Planner
from postwarden_operator.reconcile.world import Pod, World
from reconcile.test_plan import document

NAMESPACES = ("mail", "shop")
SELECTORS: tuple[dict[str, Any], ...] = (
    {},
    {"matchLabels": {"app": "a"}},
    {"matchLabels": {"app": "b"}},
    {"typo": 1},
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    """Up to two policies a namespace, some of which are invalid."""
    made = []
    for namespace in NAMESPACES:
        for number in range(draw(st.integers(0, 2))):
            name = f"{namespace}-{number}"
            mode = draw(st.sampled_from(["Enforce", "Observe", "Nonsense"]))
            selector = draw(st.sampled_from(SELECTORS))
            made.append(document(name, namespace=namespace, created=number + 1, selector=selector, mode=mode))
    return tuple(made)


@st.composite
def pods(draw: st.DrawFn) -> tuple[Pod, ...]:
    made = []
    for number in range(draw(st.integers(0, 4))):
        namespace, app = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from("abc"))
        made.append(Pod(f"pod-{number}", namespace, f"mta-{number}", {"app": app}, draw(st.booleans())))
    return tuple(made)


def told(plan: Plan) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """All that sidecars and status would notice."""
    return [_outcome(each) for each in plan.outcomes], {uid: _wish(each) for uid, each in plan.wanted.items()}


def _outcome(outcome: Outcome) -> tuple[Any, ...]:
    accepted, screened = outcome.accepted, dict(outcome.screened)
    return outcome.uid, outcome.revision, accepted, outcome.compilation.resolved, outcome.conflicted, screened


def _wish(wanted: Wanted) -> Any:
    match wanted:
        case Managed():
            return wanted.key
        case Held():
            return wanted.reason
    return type(wanted)


@given(st.lists(st.tuples(documents(), pods(), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_whatever_changes_the_plan_is_that_of_a_planner_without_a_memory(
    worlds: list[tuple[tuple[dict[str, Any], ...], tuple[Pod, ...], bool, bool]],
) -> None:
    planner = Planner(Compiler(strict=False))
    policies: tuple[dict[str, Any], ...] = ()
    known: tuple[Pod, ...] = ()
    for new_policies, new_pods, policies_change, pods_change in worlds:
        # The same objects stay where nothing is heard of them.
        policies = new_policies if policies_change else policies
        known = new_pods if pods_change else known
        world = World(policies, known)
        assert told(planner.plan(world)) == told(Planner(Compiler(strict=False)).plan(world))


def test_where_nothing_changed_the_outcome_is_the_same_object() -> None:
    planner = Planner(Compiler(strict=False))
    mail, shop = document("wall", namespace="mail"), document("fence", namespace="shop")
    here, there = Pod("uid-1", "mail", "mta-1", {}, True), Pod("uid-2", "shop", "mta-2", {}, True)
    first = planner.plan(World((mail, shop), (here, there)))
    edited = document("fence", namespace="shop", mode="Observe")
    second = planner.plan(World((mail, edited), (here, there)))
    assert second.outcomes[0] is first.outcomes[0]
    assert second.outcomes[1] is not first.outcomes[1]
    third = planner.plan(World((mail, edited), (here,)))
    assert third.outcomes[0] is first.outcomes[0]
    assert third.outcomes[1].screened == {}
