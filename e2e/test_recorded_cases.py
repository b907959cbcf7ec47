"""What a real postscreen did, done by `postwarden up` in front of a real smtpd: replies, their times, and the log.

The engine's tests play the same cases, and more of them, in virtual time. Here they come through sockets, workers, files and the log, block
lists through a name server; all of them side by side, each profile with a sidecar of its own and one Postfix behind all. Limits, stress and
PROXY headers are also played with four workers, which have to agree on them.
"""

import json
from pathlib import Path

import pytest
from engine.test_recorded_cases import CORPUS, OTHER_LOG, PLAYED
from harness.recorded_stage import Part, Stage

SHARED = {"v-limit-client", "v-limit-screening", "v-upstream-stalled", "v-stress", "v-proxy"}
"""Profiles whose cases need what several workers know together."""

PARTS = [Part(case, 1) for case in PLAYED] + [Part(case, 4) for case in PLAYED if case["profile"] in SHARED]


@pytest.fixture(scope="module")
def problems(postfix_root: Path) -> dict[str, list[str]]:
    """Of each part, what was not as recorded. What was not is played once more, without the crowd of all others: a reply that is to come at
    once comes late where a machine has much else to do, and Postfix waits for the disk."""
    found: dict[str, list[str]] = {}
    parts = PARTS
    for _ in range(2):
        with Stage(postfix_root, CORPUS, parts, OTHER_LOG) as stage:
            found |= stage.problems
        parts = [part for part in PARTS if found[part.name]]
        if not parts:
            break
    return found


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_does_what_postscreen_did(part: Part, problems: dict[str, list[str]]) -> None:
    assert problems[part.name] == [], json.dumps(part.case["steps"], indent=1)
