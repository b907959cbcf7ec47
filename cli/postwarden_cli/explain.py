"""`postwarden explain`: what happens to a client from this address, and which line says so."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from postwarden_sidecar.checks.explanation import ACTION_WORDS, explain
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import Action, Mode, Rules
from rich.console import Console
from rich.table import Table

from postwarden_cli.compiled import PATHS, examined, rules_of
from postwarden_cli.dnsbl_query import QueryResult, query

UNUSABLE = 2
INCOMPLETE = 3  # a list that was asked gave no usable answer


@click.command(epilog="Example: postwarden explain -f policy.yaml 192.168.7.7")
@PATHS
@click.argument("address")
@click.option(
    "--query-dnsbl",
    is_flag=True,
    help="Really ask the policy's block lists, by its resolvers or this machine's. Exits with 3 if one of them gives no usable answer.",
)
def command(paths: tuple[Path, ...], address: str, query_dnsbl: bool) -> None:
    """Say what the policy in force does to a client from ADDRESS. Words on a terminal, JSON when piped."""
    try:
        facts = Facts(address)
    except ValueError:
        click.echo(f"ADDRESS: {address!r} is not an IP address, as in 192.0.2.1 or 2001:db8::1", err=True)
        sys.exit(UNUSABLE)
    policy = examined(paths)[0]
    if policy.snapshot is None:
        for error in policy.errors:
            click.echo(error, err=True)
        sys.exit(1)
    rules = rules_of(policy)
    steps = explain(rules, facts)
    asked = query(rules.dnsbl, facts.address) if query_dnsbl else None
    if sys.stdout.isatty():
        click.echo(f"{address} under {policy.namespace}/{policy.name}:")
        for step in steps:
            click.echo(f"  {step}")
        if asked is not None:
            show(asked, rules)
    else:
        policy_name = f"{policy.namespace}/{policy.name}"
        document: dict[str, object] = {"address": facts.address, "policy": policy_name, "steps": steps}
        if asked is not None:
            document["dnsbl"] = asdict(asked) | {
                "threshold": rules.dnsbl.threshold,
                "verdict": dnsbl_verdict(asked, rules),
            }
        click.echo(json.dumps(document, indent=2))
    if asked is not None and not asked.complete:
        sys.exit(INCOMPLETE)


def show(asked: QueryResult, rules: Rules) -> None:
    """What the lists said, as a table."""
    console = Console()
    if asked.sites:
        table = Table("zone", "answer", "weight", "counts", box=None, padding=(0, 2, 0, 2))
        for site in asked.sites:
            table.add_row(site.zone, site.answer, f"{site.weight:+d}", "yes" if site.counts else "")
        console.print(table, markup=False)
    console.print(f"  {dnsbl_verdict(asked, rules)}", markup=False, highlight=False)


def dnsbl_verdict(asked: QueryResult, rules: Rules) -> str:
    """What becomes of the client by the lists' answers alone."""
    if not asked.sites:
        return "block lists: the policy names none"
    score = f"block lists: score {asked.score} of {rules.dnsbl.threshold}"
    if not asked.complete:
        score += ", and what gave no usable answer counts for nothing"
    if asked.failing:
        action = Action.IGNORE if rules.mode is Mode.OBSERVE else rules.dnsbl.action
        return f"{score}: it is {ACTION_WORDS[action]}"
    if asked.allowed:
        return f"{score}: it passes all other tests, too"
    return f"{score}: it passes"
