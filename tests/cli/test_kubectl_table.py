"""What `kubectl postwarden status` shows on a terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from postwarden_cli.kubectl_status import _is_well, _table
from rich.console import Console


def shown(sidecars: dict[str, Any], *, up_to_date: bool = True) -> str:
    condition = {
        "type": "Programmed",
        "status": "False",
        "reason": "Rejected",
        "message": "mta-1: unknown feature",
    }
    row = {
        "policy": "mail/wall",
        "mode": "Enforce",
        "sidecars": sidecars,
        "upToDate": up_to_date,
        "conditions": [condition],
    }
    out = StringIO()
    Console(file=out, width=120).print(_table([row]))
    return out.getvalue()


def test_sidecars_are_counted_by_their_states() -> None:
    text = shown({"summary": "2/5", "synced": 2, "pending": 1, "rejected": 0, "disconnected": 2})
    assert "2/5" in text
    assert "1 pending" in text
    assert "2 disconnected" in text
    assert "rejected" not in text
    assert "mta-1: unknown feature" in text


@pytest.mark.parametrize("sidecars", [{}, {"summary": "5/5", "pending": 0}])
def test_states_without_sidecars_are_left_out(sidecars: dict[str, Any]) -> None:
    text = shown(sidecars)
    assert "pending" not in text
    assert "disconnected" not in text


def test_status_of_an_older_edit_is_called_so() -> None:
    assert "OutOfDate" in shown({"summary": "1/1"}, up_to_date=False)


@pytest.mark.parametrize(
    ("condition", "status", "well"),
    [
        ("Programmed", "True", True),
        ("Programmed", "Unknown", False),
        ("Accepted", "False", False),
        ("DNSBLHealthy", "Unknown", True),
        ("Intercepted", "Unknown", True),
        ("Intercepted", "False", False),
    ],
)
def test_what_nobody_knows_is_no_fault_but_where_it_is_what_is_in_force(
    condition: str, status: str, well: bool
) -> None:
    assert _is_well({"type": condition, "status": status}) is well
