"""`postwarden check`: are these policies right? All errors at once, each with file, document and field path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from postwarden_operator.files.examine import Examined
from rich.console import Console
from rich.table import Table

from postwarden_cli.balancers import screened_balancers, warning
from postwarden_cli.compiled import PATHS, examined, rules_of

WRONG = 1  # exit code: a policy has errors


@click.command(epilog="Example: postwarden check -f policies/ && git push")
@PATHS
def command(paths: tuple[Path, ...]) -> None:
    """Check policies and their lists, without a cluster. A table on a terminal, JSON when piped.

    Exit code 0: all are right, be there warnings or not; 1: at least one has errors.
    """
    policies = examined(paths)
    rows = [_row(policy) for policy in policies]
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        click.echo(json.dumps(rows, indent=2))
    for policy in policies:
        for error in policy.errors:
            click.echo(error, err=True)
        for network in _screened_balancers(policy):
            click.echo(f"warning: {warning(f'{policy.namespace}/{policy.name}', network)}", err=True)
    sys.exit(WRONG if any(policy.errors for policy in policies) else 0)


def _screened_balancers(policy: Examined) -> tuple[str, ...]:
    return () if policy.snapshot is None else screened_balancers(rules_of(policy))


def _row(policy: Examined) -> dict[str, object]:
    row: dict[str, object] = {
        "policy": f"{policy.namespace}/{policy.name}",
        "inForce": policy.in_force and policy.snapshot is not None,
        "errors": list(policy.errors),
    }
    if policy.snapshot is None:
        return row
    rules = rules_of(policy).access.rules
    return row | {
        "revision": policy.snapshot.revision,
        "rules": [{"field": rule.field, "intervals": len(rule.table)} for rule in rules],
    }


def _print_table(rows: list[dict[str, object]]) -> None:
    table = Table("Policy", "In force here", "Access rules", "Revision")
    for row in rows:
        rules = row.get("rules")
        count = str(len(rules)) if isinstance(rules, list) else "-"
        table.add_row(
            str(row["policy"]),
            "yes" if row["inForce"] else "no",
            count,
            str(row.get("revision", "has errors"))[:12],
        )
    Console().print(table)
