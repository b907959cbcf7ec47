"""A World in, an outcome for each policy and a wish for each pod out. Pure, but for memories.

Contract: level-triggered: it depends on nothing but the World; what is remembered only saves work, for of 1,000 policies one changes.
A pod is Unmanaged only if no policy of its namespace matches it. A policy that matches and is invalid, or does not compile, holds its
pods: what is in force there stays, and no other policy gets them by somebody's typo. One that is being compiled for the first time
says nothing until then.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from postwarden_operator.compiler import Candidate, SelectedPod, Selection, Standing, Winners
from postwarden_operator.controlplane.wanted import Held, Managed, Undecided, Unmanaged, Wanted
from postwarden_operator.policy.selector import LabelSelector
from postwarden_operator.reconcile.compilation import Compilation, Compiler, Reason
from postwarden_operator.reconcile.world import Pod, World

Select = Callable[[Iterable[Candidate], Iterable[SelectedPod]], Selection]
"""Decides which policy is in force for which pod: `Winners` in a cluster."""

_UNMANAGED = Unmanaged()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a policy.

    `screened`: the pods it is in force for and that carry our container, name by uid; `bare`: the names of those that run without.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    compilation: Compilation
    accepted: Reason
    """The compilation's, or that other policies win its pods."""
    conflicted: bool
    """It wins no pod though it matches some."""
    screened: Mapping[str, str]
    bare: tuple[str, ...] = ()

    @property
    def revision(self) -> str | None:
        """None where it does not compile, or not yet."""
        if self.compilation.compiling:
            return None
        managed = self.compilation.managed
        return None if managed is None else managed.revision


@dataclass(frozen=True, slots=True)
class Plan:
    """wanted: by pod uid, of every pod of the World."""

    outcomes: tuple[Outcome, ...]
    wanted: Mapping[str, Wanted]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was made of a policy last, and of what."""

    document: Mapping[str, object]
    candidate: Candidate
    standing: Standing | None = None
    outcome: Outcome | None = None


class Planner:
    """Remembers each policy as it was last: an Outcome is the same object again where nothing changed."""

    def __init__(self, compiler: Compiler, select: Select | None = None) -> None:
        """select: Winners where None."""
        self._compiler = compiler
        self._select = select if select is not None else Winners()
        self._known: dict[int, _Known] = {}
        """By the identity of the document, which it keeps alive."""
        self._screened: tuple[tuple[Pod, ...], dict[str, str], dict[str, str]] = (), {}, {}
        """Of these pods: those that carry our container, and those that run without, name by uid."""

    def plan(self, world: World) -> Plan:
        """What follows from the World."""
        known = [self._of(document) for document in world.policies]
        candidates = [each.candidate for each in known]
        selection = self._select(candidates, world.pods)
        self._compiler.keep_only(map(_identity, candidates))
        if self._screened[0] is not world.pods:
            self._screened = (
                world.pods,
                {pod.uid: pod.name for pod in world.pods if pod.screened},
                {pod.uid: pod.name for pod in world.pods if pod.bare},
            )
        _, screened, bare = self._screened
        wanted: dict[str, Wanted] = dict.fromkeys((pod.uid for pod in world.pods), _UNMANAGED)
        outcomes: list[Outcome] = []
        self._known = {}
        for each in known:
            compilation = self._compiler.compile(_identity(each.candidate), each.document, world)
            standing = selection.standing[each.candidate]
            outcome = each.outcome
            if outcome is None or each.standing is not standing or outcome.compilation is not compilation:
                outcome = _outcome(each.candidate, each.document, compilation, standing, screened, bare)
            outcomes.append(outcome)
            self._known[id(each.document)] = _Known(each.document, each.candidate, standing, outcome)
            wanted.update(dict.fromkeys(standing.won, _wish(outcome)))
        return Plan(tuple(outcomes), wanted)

    def _of(self, document: Mapping[str, object]) -> _Known:
        known = self._known.get(id(document))
        return known if known is not None else _Known(document, _candidate(document))


def plan(world: World, compiler: Compiler, select: Select | None = None) -> Plan:
    """What follows from the World, once."""
    return Planner(compiler, select).plan(world)


def _candidate(document: Mapping[str, object]) -> Candidate:
    """A selector that can't be read might mean any pod of the namespace.

    It holds those that no older policy has.
    """
    candidate = Candidate.of_document(document)
    if candidate is not None:
        return candidate
    metadata = document.get("metadata")
    bare = Candidate.of_document({"metadata": metadata, "spec": {"selector": {}}})
    if bare is not None:
        return bare
    known = metadata if isinstance(metadata, Mapping) else {}
    return Candidate(
        str(known.get("namespace") or "default"),
        str(known.get("name") or ""),
        str(known.get("uid") or ""),
        None,
        LabelSelector(),
    )


def _identity(candidate: Candidate) -> str:
    """The uid; a document from a file has none."""
    return candidate.uid or f"{candidate.namespace}/{candidate.name}"


def _outcome(
    candidate: Candidate,
    document: Mapping[str, object],
    compilation: Compilation,
    standing: Standing,
    screened: Mapping[str, str],
    bare: Mapping[str, str],
) -> Outcome:
    metadata = document.get("metadata")
    generation = metadata.get("generation") if isinstance(metadata, Mapping) else None
    accepted, conflicted = compilation.accepted, False
    if accepted.reason == "Valid" and standing.lost_to:
        losses = ", ".join(
            f"{other.namespace}/{other.name} ({count} {'pod' if count == 1 else 'pods'})"
            for other, count in sorted(standing.lost_to.items(), key=lambda item: item[0].precedence())
        )
        conflicted = not standing.won
        reason = "Conflicted" if conflicted else "PartlyConflicted"
        accepted = Reason(reason, f"in force in place of this policy: {losses}")
    return Outcome(
        namespace=candidate.namespace,
        name=candidate.name,
        uid=_identity(candidate),
        generation=generation if isinstance(generation, int) else 0,
        compilation=compilation,
        accepted=accepted,
        conflicted=conflicted,
        screened={uid: screened[uid] for uid in standing.won if uid in screened},
        bare=tuple(bare[uid] for uid in standing.won if uid in bare),
    )


def _wish(outcome: Outcome) -> Managed | Held | Undecided:
    compilation = outcome.compilation
    if compilation.managed is not None:
        return compilation.managed
    if compilation.compiling:
        return Undecided(f"{outcome.namespace}/{outcome.name}: {compilation.resolved.message}")
    # `resolved` has the reason of a valid policy that does not compile.
    problem = compilation.accepted if compilation.accepted.reason == "Invalid" else compilation.resolved
    return Held(f"{outcome.namespace}/{outcome.name}: {problem.message}")
