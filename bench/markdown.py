"""`python -m bench.markdown RESULT.json…`: what `make bench ARGS="--json RESULT.json"` wrote, as the tables of docs/performance.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

_HEADS = (
    "system",
    "a CPU second",
    "spread",
    "a second",
    "p50, p99 ms",
    "peak MiB",
    "log lines",
    "apart: CPU s per 10,000",
    "postwarden against it",
)


def case_markdown(name: str, case: Mapping[str, Any]) -> str:
    """Of one case of the JSON object, fastest first."""
    lines = [f"### {name}", f"| {' | '.join(_HEADS)} |", "|---" + "|---:" * 6 + "|---|---|"]
    systems = sorted(case["systems"].items(), key=lambda item: -item[1]["per_cpu_second"])
    for system, row in systems:
        apart = [f"{role} {cpu:.2f}" for role, cpu in row["others_per_10k"].items() if cpu >= 0.005]
        cells = [
            system,
            f"{row['per_cpu_second']:,.0f}",
            f"{row['spread']:.0%}",
            f"{row['per_second']:,.0f}",
            f"{row['p50_us'] / 1000:.1f}, {row['p99_us'] / 1000:.1f}",
            f"{row['peak_memory'] / 2**20:.0f}",
            f"{row['log_lines']:.3f}" if row["log_lines"] else "none",
            ", ".join(apart),
            _against(case["ratios"].get(system)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _against(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None or ratio["ratio"] is None:
        return ""
    stretch = "" if ratio["stretch"] is None else f" ({ratio['stretch']:g})"
    return f"{ratio['ratio']:.2f}, aim {ratio['aim']:g}{stretch}: {ratio['outcome']}"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Print the tables of all cases in these files."""
    for file in files:
        for name, case in json.loads(file.read_text())["cases"].items():
            if "systems" in case:
                click.echo(case_markdown(name, case))


if __name__ == "__main__":
    main()
