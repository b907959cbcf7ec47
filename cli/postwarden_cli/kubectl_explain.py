"""`kubectl postwarden explain`: what becomes of an address, by the rules in force in running sidecars.

Contract: exit code 0: every sidecar that was asked has answered; 2: one has not, or none can be asked. Sidecars that say the same are shown
once.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from postwarden_operator.kube.api import ClusterApi

from postwarden_cli.admin_client import ask
from postwarden_cli.exit_codes import UNANSWERED
from postwarden_cli.pod_options import answers_or_exit, ask_each, selection_of, which_pods
from postwarden_cli.sidecar_pods import SidecarPod, way_to
from postwarden_cli.verdict_lines import safe

EXAMPLES = """\b
Examples:
  By the rules in force in all sidecars of this namespace:
    kubectl postwarden explain 203.0.113.9
  In one pod, with the passes that it holds of that client:
    kubectl postwarden explain 203.0.113.9 postfix-0 -n mail-system
  What a policy that is not applied yet would say: postwarden explain -f policy.yaml 203.0.113.9
  Needs the verbs get and list on pods, and get and create on pods/portforward.
"""


@click.command(epilog=EXAMPLES)
@click.argument("address")
@click.argument("pods", nargs=-1, metavar="[POD]…")
@which_pods
def command(
    address: str, pods: tuple[str, ...], namespace: str | None, selector: str, policy: str, port: int
) -> None:
    """Say what becomes of a client from ADDRESS now, and which line says so; with the passes that it holds.

    Words on a terminal, a JSON line for each pod when piped.
    """
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise click.BadParameter(
            f"{address!r} is not an IP address, as in 192.0.2.1 or 2001:db8::1", param_hint="ADDRESS"
        ) from None
    selection = selection_of(pods, namespace, selector, policy)

    async def question(api: ClusterApi, pod: SidecarPod, _: Sequence[SidecarPod]) -> dict[str, Any]:
        return await ask(way_to(api, pod, port), "/explain", {"address": [address]})

    answers = answers_or_exit(ask_each(selection, port, question))
    found = {pod.name: answer for pod, answer in answers if isinstance(answer, dict)}
    if sys.stdout.isatty():
        for line in words(found):
            click.echo(line)
    else:
        for name, answer in found.items():
            source = {"k8s.namespace.name": selection.namespace, "k8s.pod.name": name}
            click.echo(json.dumps({**source, **answer}))
    for pod, problem in answers:
        if not isinstance(problem, dict):
            click.echo(f"kubectl postwarden: {pod.name}: {problem}", err=True)
    sys.exit(0 if len(found) == len(answers) else UNANSWERED)


def words(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For a person: pods with the same answer together."""
    groups: dict[str, list[str]] = {}
    for pod, answer in answers.items():
        policy = answer.get("policy") or {}
        name = f"{policy.get('namespace')}/{policy.get('name')}" if policy else "no policy"
        steps = "".join(f"\n  {safe(str(step))}" for step in answer.get("steps", ()))
        groups.setdefault(f"{safe(str(answer.get('address')))} under {safe(name)}{{}}:{steps}", []).append(
            pod
        )
    return [text.replace("{}", f" in {', '.join(pods)}", 1) for text, pods in groups.items()]
