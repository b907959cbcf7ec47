"""The table that a person reads. Pure: rows in, a rich table out."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from bench.figures.figure import Figure
from bench.summary import Outcome, Row

_COLORS = {"missed": "red", "met": "green", "met, stretch too": "green", "not measured": "yellow"}


def case_table(title: str, rows: Sequence[Row], aims: Sequence[Outcome]) -> Table:
    """A line a system, fastest per CPU second first, with the aim beside the peer it is about."""
    table = Table(title=title, title_justify="left")
    table.add_column("system")
    for head in (
        "conn. per\nCPU second",
        "spread",
        "CPU s per\n10,000",
        "conn. per\nsecond",
        "p50 ms",
        "p99 ms",
        "peak\nMiB",
        "log lines\na conn.",
        "apart: CPU s\nper 10,000",
    ):
        table.add_column(head, justify="right")
    table.add_column("postwarden against it")
    by_peer = {each.peer: each for each in aims}
    for each in sorted(rows, key=lambda row: -row.per_cpu_second):
        table.add_row(
            each.system,
            f"{each.per_cpu_second:,.0f}",
            f"{each.spread:.0%}",
            f"{each.cpu_per_10k:.3f}",
            f"{each.per_second:,.0f}",
            f"{each.p50_us / 1000:.2f}",
            f"{each.p99_us / 1000:.2f}",
            f"{each.peak_memory / 2**20:.0f}",
            f"{each.log_lines:.3f}" if each.log_lines else "none",
            apart(each.others_per_10k),
            judged(by_peer.get(each.system)),
        )
    return table


def figure_table(title: str, figures: Sequence[Figure]) -> Table:
    """A line a figure."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("aim")
    table.add_column("note")
    for each in figures:
        outcome = each.outcome
        aim = f"{each.aim}: [{_COLORS[outcome]}]{outcome}[/]" if outcome else ""
        table.add_row(each.what, f"{each.value:,.4g}", each.unit, aim, each.note)
    return table


def apart(others: Mapping[str, float]) -> str:
    """What other groups took, those that took something."""
    return ", ".join(f"{role} {seconds:.3f}" for role, seconds in others.items() if seconds >= 0.0005)


def judged(outcome: Outcome | None) -> str:
    """With rich's markup."""
    if outcome is None:
        return ""
    if outcome.ratio is None:
        return f"[{_COLORS[outcome.word]}]{outcome.word}[/]"
    wanted = f">= {outcome.at_least:g}" + ("" if outcome.stretch is None else f" ({outcome.stretch:g})")
    return f"{outcome.ratio:.2f}, aim {wanted}: [{_COLORS[outcome.word]}]{outcome.word}[/]"
