"""A figure that has an aim of its own, and what a study is that finds some. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Said = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """at_most, at_least: the aim; both None: it is shown for what it tells. note: how it came about, half a sentence."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def outcome(self) -> Literal["", "met", "missed"]:
        """Whether the aim is met; "" without one."""
        if self.at_most is None and self.at_least is None:
            return ""
        above = self.at_most is not None and self.value > self.at_most
        below = self.at_least is not None and self.value < self.at_least
        return "missed" if above or below else "met"

    @property
    def aim(self) -> str:
        """For people; "" without one."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


class Study(Protocol):
    """A module of this package."""

    @property
    def NAME(self) -> str: ...

    @property
    def TITLE(self) -> str: ...

    def study(self, rounds: int, scale: float, said: Said) -> Sequence[Figure]:
        """Measure. rounds: how often what is compared is measured; scale: of the number of connections. Raises LoadFailed."""


def as_json(figures: Sequence[Figure]) -> dict[str, object]:
    """For the last line."""
    return {
        each.what: {
            "value": float(f"{each.value:.4g}"),
            "unit": each.unit,
            "aim": each.aim,
            "outcome": each.outcome,
        }
        for each in figures
    }
