"""The dashboards keep the rules of Grafana's own dashboard-linter, restated here for it can't be had as a package.

Left out: its rules on the variable and the matcher `instance`, for ours are `namespace` and `pod`, which outlive a restart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from postwarden.telemetry.prometheus import family_name, series_name
from postwarden.telemetry.readings import Kind
from postwarden_dashboards.generate import files
from postwarden_dashboards.panels import COUNT, PER_SECOND, SECONDS, SHARE
from postwarden_operator.telemetry.metrics import METRICS as OPERATOR_METRICS
from postwarden_sidecar.telemetry.metrics import METRICS as SIDECAR_METRICS

ROOT = Path(__file__).parents[2]
BOARDS = {path: json.loads(text) for path, text in files().items() if path.endswith(".json")}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
METRICS = (*SIDECAR_METRICS, *OPERATOR_METRICS)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


@pytest.fixture(params=sorted(BOARDS))
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = BOARDS[request.param]
    return found


@pytest.mark.parametrize("path", sorted(files()))
def test_what_is_committed_is_what_the_code_makes(path: str) -> None:
    assert (ROOT / path).read_text() == files()[path], "run make generate"


def test_dashboards_have_ids_of_their_own_and_are_not_edited_by_hand(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert board["title"].startswith("Postwarden / ")
    assert len({each["uid"] for each in BOARDS.values()}) == len(BOARDS)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_panel_says_what_it_shows_in_which_unit_from_the_chosen_data_source(
    board: dict[str, Any],
) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in {COUNT, PER_SECOND, SECONDS, SHARE}
        assert panel["datasource"] == SOURCE
        assert panel["targets"]
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
        names = [target["refId"] for target in panel["targets"]]
        assert all(names)
        assert len(set(names)) == len(names)
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)


def test_panels_lie_beside_each_other_within_the_width(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_variables_choose_data_source_job_namespace_and_pod(board: dict[str, Any]) -> None:
    found = {each["name"]: each for each in board["templating"]["list"]}
    assert list(found) == ["datasource", "job", "namespace", "pod"]
    assert (found["datasource"]["type"], found["datasource"]["query"]) == ("datasource", "prometheus")
    assert found["datasource"]["label"] == "Data source"
    everything = {"job": ".+", "namespace": ".*", "pod": ".*"}
    for name, matches_all in everything.items():
        variable = found[name]
        assert variable["datasource"] == SOURCE
        assert (variable["type"], variable["label"], variable["refresh"]) == ("query", name.title(), 2)
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, matches_all)
        assert variable["current"]["value"] == "$__all"
        assert re.fullmatch(rf"label_values\(postwarden_\w+(\{{.*\}})?, {name}\)", variable["query"])


def test_every_selector_is_of_a_series_that_there_is_and_holds_the_variables(board: dict[str, Any]) -> None:
    known = {series_name(metric) for metric in METRICS}
    known |= {f"{family_name(metric)}_count" for metric in METRICS if metric.kind is Kind.HISTOGRAM}
    labels = {key.replace(".", "_") for metric in METRICS for key in metric.attributes}
    for expression in expressions(board):
        selectors = re.findall(r"(\w+)\{([^}]*)\}", expression)
        assert selectors
        for name, matchers in selectors:
            assert name in known
            assert matchers.startswith('job=~"$job", namespace=~"$namespace", pod=~"$pod"')
        bare = re.sub(r"\{[^}]*\}", "", expression)
        assert set(re.findall(r"\bpostwarden_\w+", bare)) <= known | labels


def test_counters_are_shown_as_rates_over_the_interval_that_fits_the_screen(board: dict[str, Any]) -> None:
    for expression in expressions(board):
        assert set(re.findall(r"rate\([^\[]*\[([^\]]*)\]", expression)) <= {"$__rate_interval"}
        assert set(re.findall(r"increase\([^\[]*\[([^\]]*)\]", expression)) <= {"$__range"}
        counters = re.findall(r"\b\w+_(?:total|bucket|count)\{", expression)
        ranged = re.findall(r"(?:rate|increase)\(\w+_(?:total|bucket|count)\{", expression)
        assert len(counters) == len(ranged)
