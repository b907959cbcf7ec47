"""What a real postscreen did, played against the engine in virtual time: replies, their times, log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine.recorded_player import Case, Player, compare_log
from engine.recorded_policies import rules_of
from engine.scene import Scene, make_context
from postwarden_sidecar.engine.actions import HandoffOutcome

CORPUS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "postscreen-cases.json").read_text(encoding="utf-8")
)
CATEGORIES = ("access", "pregreet", "pass", "proxy", "limits", "combined")

DEEP_TESTS = "needs a test that runs within the SMTP dialogue"
LIMITS = "needs limits, which are counted over connections"
STRESS = "needs the stress mode"
DNSBL = "needs DNS block lists"
# Cases of CATEGORIES that are not played, and why. Those of `engine` have a test of their own below.
NOT_PLAYED = {
    "v-pass-04": DEEP_TESTS,
    "v-pass-05": DEEP_TESTS,
    "v-proxy-03": DEEP_TESTS,
    "v-proxy-10": DEEP_TESTS,
    "v-proxy-15": "postscreen fails a header that comes in pieces; we read on until its time is up (test_proxy_in)",
    "v-limits-01": LIMITS,
    "v-limits-02": LIMITS,
    "v-limits-03": LIMITS,
    "v-limits-04": LIMITS,
    "v-limits-05": LIMITS,
    "v-limits-06": LIMITS,
    "v-limits-07": LIMITS,
    "v-limits-08": LIMITS,
    "v-limits-11": STRESS,
    "v-limits-12": STRESS,
    "v-combined-02": DNSBL,
    "v-combined-03": DNSBL,
    "v-combined-04": DNSBL,
    "v-combined-05": DNSBL,
    "v-combined-06": DNSBL,
    "v-combined-07": DNSBL,
    "v-combined-08": DNSBL,
    "v-combined-09": DEEP_TESTS,
    "v-combined-10": DEEP_TESTS,
}
# Where our log is another, and why.
OTHER_LOG = {
    # postscreen asks its cache once more after the failed hand-off, and logs that.
    "v-limits-10": ["CONNECT", "PASS NEW", "DISCONNECT"],
}
# Log lines of tests within the dialogue, which postscreen runs after any failure under Enforce.
LATER_LOG = ("COMMAND PIPELINING", "NON-SMTP COMMAND", "BARE NEWLINE")

PLAYED = [case for case in CORPUS["cases"] if case["category"] in CATEGORIES and case["id"] not in NOT_PLAYED]


def player_for(case: Case) -> Player:
    profile = CORPUS["profiles"][case["profile"]]
    down = profile.get("upstream") == "down"
    scene = Scene(HandoffOutcome.UNREACHABLE if down else HandoffOutcome.DONE)
    context = make_context(rules_of(profile["policy"]), banner="mx.oracle.test ESMTP")
    return Player(scene, context, profile.get("listen", "127.0.0.1"))


@pytest.mark.parametrize("case", PLAYED, ids=lambda case: f"{case['id']}-{case['title']}")
def test_does_what_postscreen_did(case: Case) -> None:
    player = player_for(case)
    problems = player.play(case)
    for name, got in player.logs().items():
        recorded = OTHER_LOG.get(case["id"], case["log"][name])
        want = [entry for entry in recorded if not entry.startswith(LATER_LOG)]
        problems += compare_log(want, got, f"{case['id']} log of {name}")
    assert problems == []


def test_the_table_of_cases_left_out_names_cases() -> None:
    assert set(NOT_PLAYED) <= {case["id"] for case in CORPUS["cases"] if case["category"] in CATEGORIES}
    assert len(PLAYED) >= 60


# The dialogue's cases are of clients that failed nothing, whom postscreen tells 450 at RCPT. Played with every client denied, the same
# words of ours are heard, and 550 at RCPT.
DIALOGUES = [
    case
    for case in CORPUS["cases"]
    if case["profile"] == "v-engine" and sum(step["op"] == "connect" for step in case["steps"]) == 1
]
REFUSED = "550 5.3.2 Service currently unavailable"


@pytest.mark.parametrize("case", DIALOGUES, ids=lambda case: f"{case['id']}-{case['title']}")
def test_talks_as_postscreen_does(case: Case) -> None:
    rules = rules_of(DENY_ALL)
    player = Player(Scene(), make_context(rules, banner="mx.oracle.test ESMTP"), "127.0.0.1")
    problems = player.play(json.loads(_as_denied(json.dumps(case))))
    want = ["CONNECT", "DENYLISTED"]
    for entry in case["log"]["a"][1:]:
        if not entry.startswith((*LATER_LOG, "PASS NEW")):
            want.append(
                entry.replace("450 4.3.2 Service currently unavailable", REFUSED).replace(
                    "550 5.5.1 Protocol error", REFUSED
                )
            )
    problems += compare_log(want, player.logs()["a"], f"{case['id']} log")
    assert problems == []


def _as_denied(text: str) -> str:
    """The expected replies, with every refusal of a recipient turned into that of the access list."""
    denied = '"code": "550", "enh": "5.3.2", "text": "Service currently unavailable"'
    text = text.replace('"code": "450", "enh": "4.3.2", "text": "Service currently unavailable"', denied)
    return text.replace('"code": "550", "enh": "5.5.1", "text": "Protocol error"', denied)


DENY_ALL = """
metadata: {name: deny-all}
spec:
  selector: {}
  mode: Enforce
  access: {myNetworks: [], rejectAction: Enforce, rules: [{action: Reject, cidrs: [0.0.0.0/0]}]}
  pregreet: {banner: "", wait: 1s}
  session: {hostname: mx.oracle.test}
"""
