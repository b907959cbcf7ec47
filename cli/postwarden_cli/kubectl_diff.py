"""`kubectl postwarden diff`: the rules in force in running sidecars against what the cluster's policies and lists compile to now.

Contract: exit codes as `kubectl diff` has them: 0: no difference; 1: there are some; 2: a sidecar, or the cluster, can't be asked. Sidecars
with the same differences are shown once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from postwarden_operator.kube.api import ClusterApi

from postwarden_cli.admin_client import Refused, Unanswered, ask
from postwarden_cli.exit_codes import UNANSWERED
from postwarden_cli.pod_options import answers_or_exit, ask_each, selection_of, which_pods
from postwarden_cli.rules_difference import Difference, differences
from postwarden_cli.sidecar_pods import Selection, SidecarPod, way_to
from postwarden_cli.verdict_lines import safe
from postwarden_cli.wanted_rules import Wish, wishes

SHOWN_ROWS = 20  # of a list that differs, on a terminal; JSON has all

EXAMPLES = """\b
Examples:
  All sidecars of this namespace:
    kubectl postwarden diff
  Those of one policy, as JSON:
    kubectl postwarden diff -n mail-system --policy mail | jq .
  Needs the verbs get and list on pods and screeningpolicies, get on configmaps, and get and create on pods/portforward.
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one sidecar. notes: what differs besides the rules, a sentence each."""

    in_force: str
    wanted: str
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not self.differences and not self.notes


@click.command(epilog=EXAMPLES)
@click.argument("pods", nargs=-1, metavar="[POD]…")
@which_pods
def command(pods: tuple[str, ...], namespace: str | None, selector: str, policy: str, port: int) -> None:
    """Compare the rules in force in sidecars with what the cluster's policies and lists say now.

    `-` is in force, `+` is wanted. Words on a terminal, a JSON line for each pod when piped. Keys in Secrets are not compared. Exit
    code 0: no difference; 1: there are some; 2: it can't be asked.
    """
    selection = selection_of(pods, namespace, selector, policy)
    answers = answers_or_exit(_compare(selection, port))
    found = {pod.name: answer for pod, answer in answers if isinstance(answer, Comparison)}
    if sys.stdout.isatty():
        for line in words(found):
            click.echo(line if os.environ.get("NO_COLOR") else coloured(line))
    else:
        for name, comparison in found.items():
            source = {"k8s.namespace.name": selection.namespace, "k8s.pod.name": name}
            click.echo(json.dumps({**source, "same": comparison.same, **asdict(comparison)}))
    for pod, problem in answers:
        if not isinstance(problem, Comparison):
            click.echo(f"kubectl postwarden: {pod.name}: {problem}", err=True)
    if len(found) < len(answers):
        sys.exit(UNANSWERED)
    sys.exit(0 if all(comparison.same for comparison in found.values()) else 1)


async def _compare(
    selection: Selection, port: int
) -> list[tuple[SidecarPod, Comparison | Unanswered | Refused]]:
    wanted: asyncio.Task[dict[str, Wish]] | None = None

    async def question(api: ClusterApi, pod: SidecarPod, pods: Sequence[SidecarPod]) -> Comparison:
        nonlocal wanted
        answer = await ask(way_to(api, pod, port), "/rules")
        # By the first that answers: what nobody waits for would outlive the client, and end in a traceback.
        if wanted is None:
            wanted = asyncio.create_task(wishes(api, selection.namespace, pods))
        return compared(answer, (await wanted)[pod.name])

    return await ask_each(selection, port, question)


def compared(answer: Mapping[str, Any], wish: Wish) -> Comparison:
    """answer: of a sidecar's `/rules`."""
    policy, rules = answer.get("policy"), answer.get("rules")
    in_force = f"{policy['namespace']}/{policy['name']}" if policy else ""
    notes = [
        f"worker {each.get('index')} has not applied the newest rules yet"
        for each in answer.get("workers", ())
        if not each.get("inForce")
    ]
    if not answer.get("complete", True):
        notes.append(
            "the sidecar has its rules from disk, without the keys of Secrets: lists that need one are not asked"
        )
    if answer.get("operator") == "away":
        notes.append("the sidecar has no connection to the operator")
    if in_force != wish.policy:
        notes.append(f"{in_force or 'no policy'} is in force, {wish.policy or 'no policy'} is wanted")
        return Comparison(in_force, wish.policy, (), tuple(notes))
    if wish.errors:
        notes += [
            f"the policy does not compile now, so that what is in force stays: {error}"
            for error in wish.errors
        ]
        return Comparison(in_force, wish.policy, (), tuple(notes))
    found = tuple(differences(rules, wish.rules))
    revision = policy.get("revision", "") if policy else ""
    if not found and wish.revision not in ("", revision):
        notes.append(
            f"the rules are the same, but revision {revision} is in force and {wish.revision} is wanted: a Secret has changed, or what "
            "changed makes no difference"
        )
    return Comparison(in_force, wish.policy, found, tuple(notes))


def words(comparisons: Mapping[str, Comparison]) -> list[str]:
    """For a person: pods with the same differences together."""
    groups: list[tuple[Comparison, list[str]]] = []
    for pod, comparison in comparisons.items():
        same = next((pods for known, pods in groups if known == comparison), None)
        if same is None:
            groups.append((comparison, [pod]))
        else:
            same.append(pod)
    lines: list[str] = []
    for comparison, pods in groups:
        what = "no difference" if comparison.same else "differs"
        lines.append(f"{comparison.in_force or 'no policy'} in {', '.join(pods)}: {what}")
        lines += [f"  {safe(note)}" for note in comparison.notes]
        for each in comparison.differences:
            lines.append(f"  {each.path}:")
            lines += [f"  - {row}" for row in _rows(each.in_force)] + [
                f"  + {row}" for row in _rows(each.wanted)
            ]
    return lines


def coloured(line: str) -> str:
    """As `diff --color` has it."""
    colours = {"  -": "red", "  +": "green"}
    return click.style(line, fg=colours[line[:3]]) if line[:3] in colours else line


def _rows(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        shown = [safe(each) for each in value[:SHOWN_ROWS]]
        left = len(value) - len(shown)
        return [*shown, f"… and {left} more"] if left else shown
    return [safe(json.dumps(value))]
