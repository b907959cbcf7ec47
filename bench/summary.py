"""What the samples of a case come to: medians over the rounds, ratios of medians, and whether the aims are met. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bench.cases.case import Aim


@dataclass(frozen=True)
class Sample:
    """One load on one system. cpu_seconds: of the server's group; others: of the groups beside it, by role. peak_memory: bytes of PSS.
    log_lines: that the load made."""

    connections: int
    seconds: float
    cpu_seconds: float
    p50_us: float
    p99_us: float
    peak_memory: int
    log_lines: int = 0
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.connections / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.connections / self.cpu_seconds


@dataclass(frozen=True)
class Row:
    """Medians of a system. cpu_per_10k, others_per_10k: CPU seconds per 10,000 connections. spread: of the connections a CPU second, the
    difference of its extremes as a share of the median. log_lines: a connection; less than 1 where it lost some."""

    system: str
    rounds: int
    per_cpu_second: float
    spread: float
    per_second: float
    cpu_per_10k: float
    others_per_10k: Mapping[str, float]
    p50_us: float
    p99_us: float
    peak_memory: int
    log_lines: float


@dataclass(frozen=True)
class Outcome:
    """ratio: of connections per CPU second, the measured system's over the peer's; None: the peer was not measured."""

    peer: str
    ratio: float | None
    at_least: float
    stretch: float | None

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not measured"
        if self.stretch is not None and self.ratio >= self.stretch:
            return "met, stretch too"
        return "met" if self.ratio >= self.at_least else "missed"


def row(system: str, samples: Sequence[Sample]) -> Row:
    """Raises StatisticsError without samples."""
    speeds = [sample.per_cpu_second for sample in samples]
    roles = samples[0].others if samples else {}
    speed = statistics.median(speeds)
    return Row(
        system=system,
        rounds=len(samples),
        per_cpu_second=speed,
        spread=(max(speeds) - min(speeds)) / speed,
        per_second=statistics.median(sample.per_second for sample in samples),
        cpu_per_10k=10_000 / speed,
        others_per_10k={
            role: statistics.median(sample.others[role] / sample.connections * 10_000 for sample in samples)
            for role in roles
        },
        p50_us=statistics.median(sample.p50_us for sample in samples),
        p99_us=statistics.median(sample.p99_us for sample in samples),
        peak_memory=max(sample.peak_memory for sample in samples),
        log_lines=statistics.median(sample.log_lines / sample.connections for sample in samples),
    )


def outcomes(aims: Sequence[Aim], measured: str, rows: Sequence[Row]) -> list[Outcome]:
    """Of each aim."""
    speeds = {each.system: each.per_cpu_second for each in rows}
    return [
        Outcome(
            aim.peer,
            speeds[measured] / speeds[aim.peer] if {measured, aim.peer} <= speeds.keys() else None,
            aim.at_least,
            aim.stretch,
        )
        for aim in aims
    ]


def as_json(rows: Sequence[Row], aims: Sequence[Outcome]) -> dict[str, object]:
    """For the last line."""
    systems = {}
    for each in rows:
        fields = {name: _rounded(value) for name, value in asdict(each).items()}
        systems[fields.pop("system")] = fields
    ratios = {
        each.peer: {
            "ratio": _rounded(each.ratio),
            "aim": each.at_least,
            "stretch": each.stretch,
            "outcome": each.word,
        }
        for each in aims
    }
    return {"systems": systems, "ratios": ratios}


def _rounded(value: object) -> object:
    """Floats to four digits: what is behind them is chance."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return value
