"""`make bench`: Postwarden's data path beside its peers and beside the limit; the last line is one JSON object.

`python -m bench --help` says what can be chosen; docs/performance.md what is measured and how.
"""

import json
import os
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from bench import cases, figures, systems
from bench.figures.figure import as_json as figures_json
from bench.load_generator import LoadFailed
from bench.measure import measure
from bench.summary import as_json, outcomes, row
from bench.table import case_table, figure_table

ROUNDS = 5
QUICK_ROUNDS, QUICK_SCALE = 2, 0.25
WIDTH = 170
"""Columns of the table where the output is no terminal."""


@click.command()
@click.option(
    "--case", "names", multiple=True, type=click.Choice([*cases.ALL, *figures.ALL]), help="These only."
)
@click.option("--system", "only", multiple=True, type=click.Choice(list(systems.ALL)), help="These only.")
@click.option(
    "--rounds", type=click.IntRange(1), help=f"How often each system is started. [default: {ROUNDS}]"
)
@click.option(
    "--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds of a quarter of the connections: to see it work."
)
@click.option(
    "--json", "file", type=click.Path(path_type=Path), help="Write the JSON object there, too, indented."
)
def main(
    names: tuple[str, ...], only: tuple[str, ...], rounds: int | None, quick: bool, file: Path | None
) -> None:
    """Measure, and say of each aim whether it is met. That a ratio got worse is for `make bench-regress` to find."""
    if os.geteuid() != 0:
        raise click.UsageError("it needs root, for control groups and the mail servers' root folders")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    result: dict[str, object] = {}
    began = time.monotonic()
    for name in [each for each in names or cases.ALL if each in cases.ALL]:
        case = cases.ALL[name]
        chosen = [systems.ALL[each] for each in case.systems if not only or each in only]
        if not chosen:
            continue
        try:
            samples = measure(
                case,
                chosen,
                rounds,
                scale=QUICK_SCALE if quick else 1.0,
                said=lambda line: click.echo(line, err=True),
            )
        except LoadFailed as failure:
            raise click.ClickException(str(failure)) from failure
        rows = [row(system, found) for system, found in samples.items()]
        judged = outcomes(case.aims, case.measured, rows)
        console.print(case_table(f"{case.name}: {case.title}", rows, judged))
        result[name] = as_json(rows, judged)
    for name in [] if only and not names else [each for each in names or figures.ALL if each in figures.ALL]:
        study = figures.ALL[name]
        try:
            found = study.study(
                rounds, QUICK_SCALE if quick else 1.0, lambda line: click.echo(line, err=True)
            )
        except LoadFailed as failure:
            raise click.ClickException(str(failure)) from failure
        console.print(figure_table(f"{study.NAME}: {study.TITLE}", found))
        result[name] = figures_json(found)
    document = {
        "cores": os.cpu_count(),
        "rounds": rounds,
        "seconds": round(time.monotonic() - began),
        "cases": result,
    }
    if file is not None:
        file.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
