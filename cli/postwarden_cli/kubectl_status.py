"""`kubectl postwarden status`: what `kubectl get spol` has no room for: each condition with its reason and message.

Contract: exit code 1: a policy is not as it should be; 2: it can't be asked.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from postwarden_operator.kube.api import ApiRefused, ApiUnavailable, ClusterApi, NoCluster, default_namespace
from rich.console import Console
from rich.table import Table

from postwarden_cli.exit_codes import UNANSWERED

API = "/apis/postwarden.dev/v1alpha1"
IN_FORCE = ("Accepted", "ResolvedRefs", "Programmed")

COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


@click.command(epilog="Examples: kubectl postwarden status -A; kubectl postwarden status mail -n mail-system")
@click.argument("name", required=False)
@click.option(
    "-n", "--namespace", default=None, help="Whose policies  [default: your kubeconfig's, else default]"
)
@click.option("-A", "--all-namespaces", is_flag=True, help="Those of all namespaces.")
def command(name: str | None, namespace: str | None, all_namespaces: bool) -> None:
    """Show policies: their sidecars, and each condition with its reason. A table on a terminal, JSON when piped.

    Exit code 0: every policy is in force in all of its sidecars; 1: one is not; 2: the cluster can't be asked.
    """
    within = "" if all_namespaces else f"/namespaces/{namespace or default_namespace()}"
    path = f"{API}{within}/screeningpolicies"
    try:
        policies = asyncio.run(_read(path, name))
    except (NoCluster, ApiUnavailable, ApiRefused) as error:
        click.echo(f"kubectl postwarden: {error}", err=True)
        sys.exit(UNANSWERED)
    rows = [_row(policy) for policy in policies]
    if sys.stdout.isatty():
        Console().print(_table(rows))
    else:
        click.echo(json.dumps(rows, indent=2))
    sys.exit(0 if all(row["well"] for row in rows) else 1)


async def _read(path: str, name: str | None) -> list[dict[str, Any]]:
    api = await ClusterApi.connect()
    try:
        if name is not None and "/namespaces/" in path:
            return [await api.request("GET", f"{path}/{name}")]
        found = (await api.list_all(path)).items
        return [policy for policy in found if name in (None, policy["metadata"]["name"])]
    finally:
        await api.close()


def _row(policy: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of one policy. well: it is in force everywhere, and the status is not older than the policy."""
    metadata, state = policy["metadata"], policy.get("status", {})
    current = state.get("observedGeneration") == metadata.get("generation")
    conditions = [
        {key: condition.get(key, "") for key in ("type", "status", "reason", "message")}
        for condition in state.get("conditions", ())
    ]
    return {
        "policy": f"{metadata['namespace']}/{metadata['name']}",
        "mode": policy.get("spec", {}).get("mode", ""),
        "sidecars": state.get("sidecars", {}),
        "revision": state.get("revision", ""),
        "upToDate": current,
        "well": current and bool(conditions) and all(map(_is_well, conditions)),
        "conditions": conditions,
    }


def _is_well(condition: Mapping[str, Any]) -> bool:
    """What nobody knows is no fault, but where it is whether the policy is in force."""
    status = condition["status"]
    return bool(status == "True" or (status == "Unknown" and condition["type"] not in IN_FORCE))


def _counts(sidecars: Mapping[str, Any]) -> str:
    """How many are in force of how many, and where the others are."""
    others = [
        f"{sidecars[state]} {state}"
        for state in ("pending", "rejected", "disconnected")
        if sidecars.get(state)
    ]
    return "\n".join((str(sidecars.get("summary", "")), *others))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("Policy", "Mode", "Sidecars", "Condition", "Reason", "Message")
    for row in rows:
        first = (row["policy"], row["mode"], _counts(row["sidecars"]))
        if not row["upToDate"]:
            table.add_row(
                *first,
                "[yellow]status[/]",
                "OutOfDate",
                "the operator has not seen this policy's newest edit",
            )
            first = ("", "", "")
        for condition in row["conditions"]:
            colour = COLOURS.get(condition["status"], "yellow")
            shown = f"[{colour}]{condition['type']}[/]"
            table.add_row(*first, shown, condition["reason"], condition["message"])
            first = ("", "", "")
        table.add_section()
    return table
