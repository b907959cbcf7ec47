"""`python -m bench.regress`: exit 1 where a connection takes over 15 % more CPU time, beside the C accept loop, than the baseline says.

CPU time and not instructions: virtual machines mostly have no counter of them. What seems worse is measured once more, and all rounds
count: one run on a busy machine may be off by that much.
"""

import json
import os
import sys
from pathlib import Path

import click

from bench import cases
from bench.cases import access_drop, dnsbl_drop, early_talker, known_client
from bench.cases.case import Case
from bench.load_generator import LoadFailed
from bench.measure import measure_once
from bench.regress.comparison import (
    ALLOWED,
    BaselineUnusable,
    Compared,
    as_baseline,
    compared,
    parse_baseline,
    ratio,
)
from bench.systems.accept_loop import AcceptLoop
from bench.systems.postwarden import Postwarden

BASELINE = Path(__file__).parent / "baseline.json"

MAIN_CASES = (access_drop.CASE, early_talker.CASE, dnsbl_drop.CASE, known_client.CASE)

ROUNDS = 5
SCALE = 0.25
"""Of the benchmark's connections: a second or two of CPU time a round, and some three minutes in all."""

_WORDS = {"worse": "red", "same": "green", "better": "green", "new": "yellow"}

Rounds = dict[str, list[tuple[float, float]]]


def measured(chosen: list[Case], rounds: int, found: Rounds) -> None:
    """Add so many rounds of each case to `found`."""
    for number in range(rounds):
        loop = 1 / measure_once(access_drop.CASE, AcceptLoop(), 1.0).per_cpu_second
        for case in chosen:
            ours = 1 / measure_once(case, Postwarden(), SCALE).per_cpu_second
            found.setdefault(case.name, []).append((ours, loop))
            click.echo(
                f"{case.name} {number + 1}/{rounds}: {ours * 1e6:.1f} us, the loop {loop * 1e6:.1f} us",
                err=True,
            )


def compare(found: Rounds, baseline: dict[str, float]) -> list[Compared]:
    return compared({case: ratio(rounds) for case, rounds in found.items()}, baseline)


def line(each: Compared) -> str:
    if each.baseline is None or each.change is None:
        return f"{each.case:<14} {each.ratio:6.2f} times the loop, no baseline"
    verdict = click.style(each.word, fg=_WORDS[each.word])
    return f"{each.case:<14} {each.ratio:6.2f} times the loop, baseline {each.baseline:.2f} ({each.change:+.0%}): {verdict}"


@click.command()
@click.option("--case", "names", multiple=True, type=click.Choice([case.name for case in MAIN_CASES]))
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--write", is_flag=True, help="Write what is measured as the new baseline of these cases.")
def main(names: tuple[str, ...], rounds: int, write: bool) -> None:
    """Measure and compare; the last line is one JSON object."""
    if os.geteuid() != 0:
        raise click.UsageError("it needs root, for control groups and the mail servers' root folders")
    chosen = [cases.ALL[name] for name in names] or list(MAIN_CASES)
    found: Rounds = {}
    try:
        baseline = parse_baseline(BASELINE.read_text()) if BASELINE.exists() else {}
        measured(chosen, rounds, found)
        suspects = {each.case for each in compare(found, baseline) if each.word == "worse"}
        if suspects and not write:
            click.echo(f"measured once more: {', '.join(sorted(suspects))}", err=True)
            measured([case for case in chosen if case.name in suspects], rounds, found)
    except (LoadFailed, BaselineUnusable) as failure:
        raise click.ClickException(str(failure)) from failure
    result = compare(found, baseline)
    for each in result:
        click.echo(line(each))
    if write:
        BASELINE.write_text(as_baseline(baseline | {each.case: each.ratio for each in result}))
    worse = [each.case for each in result if each.word == "worse"]
    ratios = {each.case: {"ratio": round(each.ratio, 3), "baseline": each.baseline} for each in result}
    click.echo(json.dumps({"ratios": ratios, "allowed": ALLOWED, "worse": worse}))
    sys.exit(1 if worse and not write else 0)


if __name__ == "__main__":
    main()
