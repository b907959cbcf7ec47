"""Writes the dashboards, the alert rules and the page about the alerts: `python -m postwarden_dashboards.generate ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path

from postwarden_dashboards.alert_page import page
from postwarden_dashboards.alert_rules import rules
from postwarden_dashboards.control_plane import control_plane
from postwarden_dashboards.panels import rendered
from postwarden_dashboards.screening import screening


def files() -> dict[str, str]:
    """All that is generated, by its path in the repository."""
    return {
        "charts/postwarden/dashboards/screening.json": rendered(screening()),
        "charts/postwarden/dashboards/control-plane.json": rendered(control_plane()),
        "charts/postwarden/alerts/postwarden.yaml": rules(),
        "docs/alerts.md": page(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        file = Path(sys.argv[1]) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
