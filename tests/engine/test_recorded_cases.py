"""What a real postscreen did, played against the engine in virtual time: replies, their times, log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine.recorded_player import Case, Player, compare_log
from engine.recorded_policies import rules_of
from engine.scene import LEARNED_EHLO, Scene, Wire, make_context
from postwarden_sidecar.checks import prefix
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.actions import DnsblAnswer, HandoffOutcome, Load
from postwarden_sidecar.rules.settings import Rules

DATA = Path(__file__).parent.parent / "data"
CORPUS: dict[str, Any] = json.loads((DATA / "postscreen-cases.json").read_text(encoding="utf-8"))
# Sessions beside those, by which differences were found; recorded in the same way. Through the whole system they were played by hand.
NEIGHBOURS: dict[str, Any] = json.loads((DATA / "neighbour-cases.json").read_text(encoding="utf-8"))
PROFILES: dict[str, Any] = CORPUS["profiles"] | NEIGHBOURS["profiles"]
# Soft cases that differ, and why. The others of them are done as postscreen does.
DIFFERENT = {
    "v-proxy-15": "postscreen fails a header that comes in pieces; we read on until its time is up (test_proxy_in)",
}
# Where our log is another, and why.
OTHER_LOG = {
    # postscreen asks its cache once more after the failed hand-off, and logs that.
    "v-limits-10": ["CONNECT", "PASS NEW", "DISCONNECT"],
}
PLAYED = [case for case in CORPUS["cases"] if case["id"] not in DIFFERENT]
ROUND_TRIP = 0.01  # seconds that a block list takes to answer


def block_list_answers(
    profile: dict[str, Any], rules: Rules, address: str
) -> list[tuple[float, DnsblAnswer]]:
    """What the profile's name server says of address: (delay, answer) of each zone. One that is silent fails when its time is up."""
    answers = []
    for zone in sorted({site.zone for site in rules.dnsbl.sites}):
        served = profile["dnsbl"].get(zone, {})
        mode = served.get("mode")
        delay = rules.dnsbl.timeout if mode == "timeout" else served.get("delay", ROUND_TRIP)
        records = [bytes(map(int, text.split("."))) for text in served.get(address, [])]
        blocked = any(record.startswith(b"\x7f\xff\xff") for record in records)
        ttl = served.get("ttl" if records else "negative_ttl", 300)
        failed = mode is not None or blocked
        usable = () if failed else tuple(records)
        answers.append((delay, DnsblAnswer(zone, usable, ttl, failed, mode or "answer", 0.0, delay)))
    return answers


class Counter:
    """How busy the scene is. Stress is on from 90 % of limits.screening on, and off at 70 %, rounded down (measured)."""

    def __init__(self, scene: Scene, rules: Rules) -> None:
        self._scene = scene
        self._rules = rules
        self._stress = False

    def load(self, newcomer: Wire, key: str) -> Load:
        limits = self._rules.limits
        # A client that was just given to the MTA is in its hands at once; a silent MTA has none yet.
        open_wires = [wire for wire in self._scene.wires if not wire.closed and not wire.handed_over]
        waiting = [wire for wire in open_wires if wire.engine.stage == "handoff"]
        screening = len(open_wires) - len(waiting) + 1
        same = sum(
            prefix.key(wire.address, Facts(wire.address).packed, limits.prefix_ipv4, limits.prefix_ipv6)
            == key
            for wire in open_wires
        )
        enter, leave = (
            limits.screening * percent // 100 for percent in (limits.stress_enter, limits.stress_leave)
        )
        if screening >= enter:
            self._stress = True
        elif screening <= leave:
            self._stress = False
        return Load(same + 1, screening, len(waiting), self._stress)


def player_for(case: Case) -> Player:
    profile = PROFILES[case["profile"]]
    rules = rules_of(profile["policy"])
    outcome = {"down": HandoffOutcome.UNREACHABLE, "stalled": None}
    scene = Scene(outcome.get(profile.get("upstream", ""), HandoffOutcome.DONE))
    scene.answers = lambda address: block_list_answers(profile, rules, address)
    scene.load = Counter(scene, rules).load
    ehlo = tuple(line for line in LEARNED_EHLO if line != "STARTTLS")  # the recorded MTA has no certificate
    return Player(
        scene,
        make_context(rules, banner="mx.oracle.test ESMTP", ehlo=ehlo),
        profile.get("listen", "127.0.0.1"),
    )


@pytest.mark.parametrize(
    "case", [*PLAYED, *NEIGHBOURS["cases"]], ids=lambda case: f"{case['id']}-{case['title']!a}"
)
def test_does_what_postscreen_did(case: Case) -> None:
    player = player_for(case)
    problems = player.play(case)
    for name, got in player.logs().items():
        if name not in case.get("ignore", ()):
            problems += compare_log(
                OTHER_LOG.get(case["id"], case["log"][name]), got, f"{case['id']} log of {name}"
            )
    assert problems == []


def test_only_soft_cases_differ() -> None:
    soft = {case["id"] for case in CORPUS["cases"] if case.get("soft")}
    assert set(DIFFERENT) | set(OTHER_LOG) <= soft
    assert len(PLAYED) == 158
