"""The tables of docs/reference/operator-telemetry.md, made from what the code uses.

`python -m postwarden_operator.telemetry.reference FILE` writes them anew between their markers; a test compares.
"""

import sys
from pathlib import Path

from postwarden.telemetry.reference_page import filled, metric_table

from postwarden_operator.telemetry.metrics import (
    METRICS,
    POLICY_STATES,
    PUSH_RESULTS,
    RECONCILE_RESULTS,
    SIDECAR_STATES,
)

_VALUES = {
    "postwarden.policy.state": POLICY_STATES,
    "postwarden.push.result": PUSH_RESULTS,
    "postwarden.reconcile.result": RECONCILE_RESULTS,
    "postwarden.sidecar.state": SIDECAR_STATES,
    "postwarden.signal": ("span",),
}


def tables() -> dict[str, str]:
    """The tables by the name of their marker."""
    return {"metrics": metric_table(METRICS, _VALUES)}


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(), tables()))
