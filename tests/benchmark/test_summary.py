"""Medians, ratios and aims of the benchmark, and the table that shows them."""

from __future__ import annotations

import io
import json
import statistics

import pytest
from rich.console import Console

from bench.cases.case import Aim
from bench.summary import Outcome, Sample, as_json, outcomes, row
from bench.table import apart, case_table, judged


def sample(speed: float, *, connections: int = 1000, p99: float = 900.0, mta: float = 0.5) -> Sample:
    """speed: connections a CPU second."""
    return Sample(
        connections=connections,
        seconds=0.5,
        cpu_seconds=connections / speed,
        p50_us=300.0,
        p99_us=p99,
        peak_memory=round(speed),
        log_lines=2 * connections,
        others={"mta": mta, "name server": 0.0},
    )


def test_a_row_has_medians_and_the_highest_memory() -> None:
    found = row(
        "postwarden", [sample(100.0, p99=1.0), sample(400.0, p99=3.0), sample(200.0, mta=0.1, p99=2.0)]
    )
    assert found.rounds == 3
    assert found.per_cpu_second == pytest.approx(200.0)
    assert found.spread == pytest.approx(1.5)
    assert found.cpu_per_10k == pytest.approx(50.0)
    assert found.per_second == pytest.approx(2000.0)
    assert found.p99_us == 2.0
    assert found.peak_memory == 400
    assert found.log_lines == 2.0
    assert found.others_per_10k == {"mta": pytest.approx(5.0), "name server": 0.0}


def test_a_row_of_nothing_is_an_error() -> None:
    with pytest.raises(statistics.StatisticsError):
        row("postwarden", [])


AIMS = (Aim("postscreen", 3.0, 3.5), Aim("haproxy", 0.75), Aim("accept-loop", 0.5, 0.6))


def test_a_ratio_is_of_medians_and_each_aim_has_its_word() -> None:
    rows = [row(name, [sample(speed)]) for name, speed in (("postwarden", 32.0), ("postscreen", 10.0))]
    rows += [row("haproxy", [sample(100.0)])]
    near, far, unknown = outcomes(AIMS, "postwarden", rows)
    assert near.ratio == pytest.approx(3.2)
    assert [each.word for each in (near, far, unknown)] == ["met", "missed", "not measured"]
    assert unknown.ratio is None


@pytest.mark.parametrize(
    ("ratio", "word"), [(3.5, "met, stretch too"), (3.49, "met"), (3.0, "met"), (2.99, "missed")]
)
def test_an_aim_is_met_from_its_figure_on(ratio: float, word: str) -> None:
    assert Outcome("postscreen", ratio, 3.0, 3.5).word == word


def test_the_measured_system_missing_leaves_all_aims_open() -> None:
    assert {each.ratio for each in outcomes(AIMS, "postwarden", [row("haproxy", [sample(1.0)])])} == {None}


def test_the_last_line_is_json_with_every_system_and_ratio() -> None:
    rows = [row("postwarden", [sample(31234.5678)]), row("postscreen", [sample(10000.0)])]
    found = json.loads(json.dumps(as_json(rows, outcomes(AIMS, "postwarden", rows))))
    assert found["systems"]["postwarden"]["per_cpu_second"] == 31230.0
    assert found["systems"]["postscreen"]["others_per_10k"] == {"mta": 5.0, "name server": 0.0}
    assert found["ratios"]["postscreen"] == {"ratio": 3.123, "aim": 3.0, "stretch": 3.5, "outcome": "met"}
    assert found["ratios"]["haproxy"]["ratio"] is None


def test_the_table_has_a_line_a_system_the_fastest_first() -> None:
    rows = [row("postwarden", [sample(32.0)]), row("accept-loop", [sample(50.0)])]
    console = Console(width=170, file=io.StringIO())
    console.print(case_table("case", rows, outcomes(AIMS, "postwarden", rows)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.index("accept-loop") < shown.index("│ postwarden")
    assert "0.64, aim >= 0.5 (0.6): met, stretch too" in shown
    assert "mta 5.000" in shown


def test_what_took_nothing_is_not_named() -> None:
    assert apart({"mta": 1.25, "name server": 0.0001}) == "mta 1.250"


def test_a_system_without_an_aim_has_no_word() -> None:
    assert judged(None) == ""
    assert "not measured" in judged(Outcome("haproxy", None, 0.75, None))
