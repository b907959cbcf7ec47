"""The alert rules as a Prometheus rule file."""

from __future__ import annotations

import io

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from postwarden_dashboards.alerts import ALERTS, Alert

PAGE = "docs/alerts.md"
"""Of this repository; a heading for each alert."""

_HEAD = "# Made by `make generate` from dashboards/postwarden_dashboards/alerts.py: change it there.\n"


def runbook(alert: Alert) -> str:
    return f"{PAGE}#{alert.name.lower()}"


def rules() -> str:
    """The file's text."""
    groups = [
        {"name": group, "rules": [_rule(alert) for alert in ALERTS if alert.group == group]}
        for group in dict.fromkeys(alert.group for alert in ALERTS)
    ]
    yaml = YAML()
    yaml.width = 1000
    stream = io.StringIO()
    yaml.dump({"groups": groups}, stream)
    return _HEAD + stream.getvalue()


def _rule(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "expr": LiteralScalarString(alert.expression),
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": f"{alert.description} {alert.meaning}",
            "runbook_url": runbook(alert),
        },
    }
