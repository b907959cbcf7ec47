"""Panels and dashboards in the project's one style, with Grafana's own library.

Contract: every panel has a title, words that say what it shows, a unit, and the dashboard's data source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from postwarden_dashboards.queries import BY_POD

WIDTH = 24
"""Of a dashboard, in Grafana's columns."""

GRAPH_HEIGHT, STAT_HEIGHT = 8, 4
"""In Grafana's rows of 30 pixels."""

PER_SECOND, COUNT, SECONDS, SHARE = "cps", "short", "s", "percentunit"
"""Grafana's names of units."""

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Query:
    """legend: of each series, with {{labels}}."""

    expression: str
    legend: str = ""


def graph(
    title: str, description: str, unit: str, *queries: Query, stacked: bool = False, width: int = 8
) -> timeseries.Panel:
    """Over time."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(GRAPH_HEIGHT)
        .legend(legend.placement(LegendPlacement.BOTTOM))
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(30 if stacked else 5)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(_target(query).ref_id(letter))
    return panel


def number(
    title: str, description: str, unit: str, query: Query, *, bad: float | None = None, width: int = 4
) -> stat.Panel:
    """One number for all that is shown. bad: from where on it is red."""
    steps = [Threshold(value=None, color="green")]
    if bad is not None:
        steps.append(Threshold(value=bad, color="red"))
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(STAT_HEIGHT)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(query).ref_id("A").instant())
    )


def _target(query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(_SOURCE).expr(query.expression)
    return target.legend_format(query.legend) if query.legend else target


def board(title: str, uid: str, description: str, shown_by: str) -> dashboard.Dashboard:
    """An empty one with its variables. shown_by: a series that everything has which the dashboard shows."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["postwarden"])
        .readonly()
        .time("now-3h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(source)
        .with_variable(_variable("job", shown_by, ".+"))
    )
    known = ['job=~"$job"']
    for name in BY_POD:
        # What runs on one machine has neither: an empty label must match.
        made.with_variable(_variable(name, f"{shown_by}{{{', '.join(known)}}}", ".*"))
        known.append(f'{name}=~"${name}"')
    return made


def _variable(name: str, selector: str, everything: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.title())
        .datasource(_SOURCE)
        .query(f"label_values({selector}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def rendered(made: dashboard.Dashboard) -> str:
    """As JSON, to be committed."""
    built = made.build()
    for number_, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number_
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
