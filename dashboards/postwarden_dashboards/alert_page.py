"""docs/alerts.md: what each alert means and what to do."""

from __future__ import annotations

from postwarden_dashboards.alerts import ALERTS, Alert

_HEAD = """<!-- Made by `make generate` from dashboards/postwarden_dashboards/alerts.py: change it there. -->
# Alerts

The rules are in [charts/postwarden/alerts/postwarden.yaml](../charts/postwarden/alerts/postwarden.yaml), a plain Prometheus rule
file: name it under `rule_files`, or let the chart install it. How metrics get to Prometheus is told in [metrics.md](metrics.md).
`critical`: mail waits, or is let through unscreened: look now. `warning`: look today. Each rule's `runbook_url` is a heading of this page.

Rules of sidecars are by `namespace` and `pod`, labels that Prometheus adds to what it scrapes from pods; those of the operator are over
all its replicas.
"""


def page() -> str:
    """The page's text."""
    return _HEAD + "".join(_section(alert) for alert in ALERTS)


def _section(alert: Alert) -> str:
    return f"""
## {alert.name}
{alert.severity}, when this has lasted {alert.lasting}:

```promql
{alert.expression}
```
**What it means.** {alert.meaning}

**What to do.** {alert.remedy}
"""
