"""Tables of a reference page, made from what the code uses, between their markers in the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from postwarden.telemetry.prometheus import series_name
from postwarden.telemetry.readings import Metric


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The page's text with its tables made anew. Raises KeyError for a marker that names no table."""

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n{tables[found[2]]}\n{found[3]}"

    return re.sub(r"(<!-- table: (\w+) -->)\n.*?\n?(<!-- end -->)", fill, text, flags=re.DOTALL)


def metric_table(metrics: Iterable[Metric], values: Mapping[str, Iterable[str]]) -> str:
    """values: what each attribute may be."""
    rows = [
        (
            f"`{metric.name}`",
            f"`{series_name(metric)}`",
            metric.kind.value,
            f"`{metric.unit}`",
            "; ".join(f"`{key}` ({', '.join(values[key])})" for key in metric.attributes),
            metric.meaning,
        )
        for metric in metrics
    ]
    return table(("OpenTelemetry", "Prometheus", "kind", "unit", "attributes", "meaning"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
