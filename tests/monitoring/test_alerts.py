"""Each alert is told of in words, and its tests fire it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from postwarden_dashboards.alert_rules import PAGE, runbook
from postwarden_dashboards.alerts import ALERTS, Alert

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=ALERTS, ids=lambda alert: alert.name)
def alert(request: pytest.FixtureRequest) -> Alert:
    found: Alert = request.param
    return found


def test_an_alert_says_what_is_seen_what_it_means_and_what_to_do(alert: Alert) -> None:
    assert alert.name.startswith("Postwarden")
    assert not alert.summary.endswith(".")
    for text in (alert.description, alert.meaning, alert.remedy):
        assert text.endswith("."), text


def test_its_runbook_is_a_heading_of_the_page(alert: Alert) -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert runbook(alert) in {f"{PAGE}#{heading.lower()}" for heading in headings}


def test_its_unit_tests_see_it_fire(alert: Alert) -> None:
    text = (ROOT / "e2e/alert_rules_test.yaml").read_text()
    assert f'{{alertname="{alert.name}", severity="{alert.severity}"}}' in text


def test_names_are_unique() -> None:
    assert max(Counter(alert.name for alert in ALERTS).values()) == 1
