"""Ratios against a baseline. Pure.

A ratio is what a connection costs in CPU time, Postwarden's over the C accept loop's of the same round: the machine's speed and its
neighbours are in both. The figure of a case is the median of its rounds' ratios.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALLOWED = 1.15
"""Of the baseline's ratio: 15 % is what a change may cost before somebody has to say so (the chance of one run is some 5 %)."""


class BaselineUnusable(Exception):
    """The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Compared:
    """One case. baseline: None where it has none yet."""

    case: str
    ratio: float
    baseline: float | None

    @property
    def change(self) -> float | None:
        """0.1: a tenth dearer than the baseline."""
        return None if self.baseline is None else self.ratio / self.baseline - 1

    @property
    def word(self) -> str:
        """`worse` is what fails; `better` says that the baseline is due to be written anew."""
        if self.baseline is None:
            return "new"
        if self.ratio > self.baseline * ALLOWED:
            return "worse"
        return "better" if self.ratio < self.baseline / ALLOWED else "same"


def parse_baseline(text: str) -> dict[str, float]:
    """Ratios by case. Raises BaselineUnusable."""
    try:
        found = json.loads(text)
        ratios = {str(case): float(ratio) for case, ratio in found["ratios"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaselineUnusable(
            f"the baseline can't be read ({error!r}): write it anew with --write"
        ) from error
    if wrong := [case for case, ratio in ratios.items() if not 0 < ratio < float("inf")]:
        raise BaselineUnusable(f"the baseline's ratio of {', '.join(wrong)} is no positive number")
    return ratios


def as_baseline(ratios: Mapping[str, float]) -> str:
    """The inverse of `parse_baseline`."""
    rounded = {case: round(ratio, 2) for case, ratio in sorted(ratios.items())}
    about = "CPU time of a connection, Postwarden's over the C accept loop's; `make bench-regress ARGS=--write` writes it"
    return json.dumps({"about": about, "ratios": rounded}, indent=2) + "\n"


def ratio(rounds: Sequence[tuple[float, float]]) -> float:
    """rounds: CPU seconds of a connection, Postwarden's and the loop's. Raises StatisticsError for none."""
    return statistics.median(ours / loop for ours, loop in rounds)


def compared(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> list[Compared]:
    """Each case that was measured."""
    return [Compared(case, found, baseline.get(case)) for case, found in ratios.items()]
