"""PromQL over our metrics, for dashboards and alerts.

Names of series and labels come from the definitions that the exporters use, so that a metric that is renamed breaks the generation and
not a dashboard. A dashboard's selectors hold its variables; an alert's hold none.
"""

from __future__ import annotations

from dataclasses import dataclass

from postwarden.telemetry.prometheus import family_name, series_name
from postwarden.telemetry.readings import Kind, Metric

BY_POD = ("namespace", "pod")
"""Labels that Prometheus gives to what it scrapes from pods; of `postwarden up` there are none, and all is one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """matchers: in every selector. window: of rates."""

    matchers: tuple[str, ...]
    window: str

    def series(self, metric: Metric, **wanted: str) -> str:
        """wanted: of the metric's attributes, by their last word, what must match; `a|b` is any of them, `!a` any other."""
        return f"{series_name(metric)}{self._selector(metric, wanted)}"

    def rate(self, metric: Metric, **wanted: str) -> str:
        """Of a counter, per second."""
        return f"rate({self.series(metric, **wanted)}[{self.window}])"

    def increase(self, metric: Metric, window: str, **wanted: str) -> str:
        """Of a counter, in that time."""
        return f"increase({self.series(metric, **wanted)}[{window}])"

    def quantile(
        self, quantile: float, metric: Metric, by: tuple[str, ...] = (), window: str = "", **wanted: str
    ) -> str:
        """Of a histogram; over the scope's window, or that one."""
        series = self.series(metric, **wanted)
        grown = f"increase({series}[{window}])" if window else f"rate({series}[{self.window}])"
        return f"histogram_quantile({quantile}, {total(grown, 'le', *by)})"

    def events(self, metric: Metric, **wanted: str) -> str:
        """A histogram's values per second."""
        if metric.kind is not Kind.HISTOGRAM:
            raise ValueError(f"{metric.name} is no histogram")
        return f"rate({family_name(metric)}_count{self._selector(metric, wanted)}[{self.window}])"

    def _selector(self, metric: Metric, wanted: dict[str, str]) -> str:
        matchers = [*self.matchers, *(_matcher(label(metric, name), value) for name, value in wanted.items())]
        return f"{{{', '.join(matchers)}}}" if matchers else ""


def label(metric: Metric, name: str) -> str:
    """Of the metric's attribute whose last word is name. Raises KeyError if there is none."""
    for attribute in metric.attributes:
        if attribute.rpartition(".")[2] == name:
            return attribute.replace(".", "_")
    raise KeyError(f"{metric.name} has no attribute {name}")


def _matcher(name: str, value: str) -> str:
    negated, value = value.startswith("!"), value.removeprefix("!")
    operator = ("!~" if negated else "=~") if "|" in value else ("!=" if negated else "=")
    return f'{name}{operator}"{value}"'


def total(expression: str, *by: str) -> str:
    """The sum, by labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def most(expression: str, *by: str) -> str:
    """The largest, by labels."""
    return f"max by ({', '.join(by)}) ({expression})" if by else f"max({expression})"


DASHBOARD = Scope(('job=~"$job"', 'namespace=~"$namespace"', 'pod=~"$pod"'), "$__rate_interval")
RANGE = "$__range"
"""All that the dashboard shows."""
