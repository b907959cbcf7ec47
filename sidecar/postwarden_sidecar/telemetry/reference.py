"""The tables of docs/reference/telemetry.md, made from what the code uses.

`python -m postwarden_sidecar.telemetry.reference FILE` writes them anew between their markers; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from postwarden.telemetry.reference_page import filled, metric_table, table

from postwarden_sidecar.dns.outcome import NETWORK_OUTCOMES
from postwarden_sidecar.engine.record import Verdict
from postwarden_sidecar.ipc import page as cells
from postwarden_sidecar.ipc.lookup_counts import OTHER
from postwarden_sidecar.telemetry.attributes import ATTRIBUTES
from postwarden_sidecar.telemetry.metrics import METRICS
from postwarden_sidecar.telemetry.sidecar_state import LIMITS

VERDICTS = {
    Verdict.ALLOWLISTED: "permitted by an access rule; no test was made",
    Verdict.PASS_OLD: "passed the tests earlier, and that still holds",
    Verdict.PASS_NEW: "passed all tests now",
    Verdict.TOLERATED: "failed a test whose action is Ignore, and was handed over",
    Verdict.EXEMPTED: "refused, but its mail to an exempt recipient went to the MTA",
    Verdict.UNSCREENED: "handed over untested: no rules, or no test is on",
    Verdict.REJECTED: "failed a test whose action is Enforce: 550 to each recipient",
    Verdict.DROPPED: "failed a test whose action is Drop: 521 and closed",
    Verdict.HANGUP: "went away before a verdict",
    Verdict.DEFERRED: "told to come back (4xx): the hand-off failed, there are no rules and Defer is set, or we are draining",
    Verdict.OVERLOADED: "told to come back (4xx): a limit was reached",
    Verdict.ERROR: "told to come back (4xx): a fault of ours",
}
_VALUES = {
    "postwarden.verdict": tuple(Verdict),
    "postwarden.test": cells.TESTS,
    "postwarden.outcome": cells.OUTCOMES,
    "postwarden.dnsbl.zone": (f"as in the policy, or {OTHER}",),
    "postwarden.dnsbl.outcome": tuple(outcome.value for outcome in NETWORK_OUTCOMES),
    "postwarden.action": tuple(action for action in cells.ACTIONS if action),
    "postwarden.stage": cells.STAGES,
    "postwarden.limit": LIMITS,
    "postwarden.signal": ("record", "line", "span", "log"),
}


def tables() -> dict[str, str]:
    """The tables by the name of their marker."""
    return {
        "verdicts": table(
            ("verdict", "meaning"), ((f"`{verdict}`", VERDICTS[verdict]) for verdict in Verdict)
        ),
        "attributes": table(("attribute", "meaning"), ((f"`{a.key}`", a.meaning) for a in ATTRIBUTES)),
        "metrics": metric_table(METRICS, _VALUES),
    }


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(), tables()))
