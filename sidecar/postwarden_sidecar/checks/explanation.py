"""What rules do to a client from an address, in sentences: for `postwarden explain`, and for a running sidecar that is asked.

Contract: the same checks decide here and for clients; nothing is asked of anybody, so that what block lists say is not in it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from postwarden_sidecar.checks import access, passes, pregreet
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.rules.settings import AccessAction, Action, Handover, Mode, Rules

ACTION_WORDS = {
    Action.IGNORE: "noted, and otherwise treated as if it had passed",
    Action.ENFORCE: "refused at RCPT with 550",
    Action.DROP: "turned away at once with 521",
}
TEST_WORDS = {
    "pregreet": "greeting test",
    "dnsbl": "block lists",
    "pipelining": "test of pipelining",
    "non_smtp_command": "test of non-SMTP commands",
    "bare_newline": "test of bare newlines",
}


def explain(
    rules: Rules, facts: Facts, held: Mapping[str, float] | None = None, wall: float = 0.0
) -> list[str]:
    """The steps that a client from there goes through, a sentence each. held: the passes that the store has of it (test -> epoch
    seconds when it ends), None: they are not known; wall: epoch seconds of now."""
    steps = []
    if rules.proxy_trusted.lookup(facts.packed) is not None:
        steps.append(
            "is a trusted proxy: it must begin with a PROXY header, and the client it names is screened"
        )
    match = access.evaluate(rules, facts)
    observe = rules.mode is Mode.OBSERVE
    refused = False
    if match is None:
        steps.append("access list: no line has it")
    elif match.action is AccessAction.PERMIT:
        steps.append(f"access list: permitted by {match.place}; no test, handed to the MTA at once")
        return steps
    elif match.action is AccessAction.DUNNO:
        steps.append(f"access list: {match.place} says Dunno; the tests decide")
    else:
        action = Action.IGNORE if observe else rules.access.reject_action
        steps.append(f"access list: rejected by {match.place}: {ACTION_WORDS[action]}")
        if action is Action.DROP:
            return steps
        refused = action is Action.ENFORCE
    if held is not None and passes.enabled(rules) and not refused:
        steps += _passes(rules, held, wall)
        if held and not passes.due(rules, held, wall):
            return steps
    return steps + _tests(rules, observe=observe)


def moment(wall: float) -> str:
    """`2026-01-31T12:00:00Z`. wall: epoch seconds; beyond what a date can hold, `never`."""
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "never"


def _passes(rules: Rules, held: Mapping[str, float], wall: float) -> list[str]:
    """Of the tests that are on."""
    due = passes.due(rules, held, wall)
    valid = [
        f"{TEST_WORDS[test]} until {moment(held[test])}"
        for test in passes.TESTS
        if test in passes.enabled(rules) - due
    ]
    if not valid:
        return ["passes: it holds none that is valid"]
    if due:
        return [f"passes: it passed before, {', '.join(valid)}; the other tests are made"]
    return [f"passes: it passed before, {', '.join(valid)}; no test, handed to the MTA at once"]


def _tests(rules: Rules, *, observe: bool) -> list[str]:
    """Those before the greeting, then the rest."""
    steps = []
    if not pregreet.enabled(rules):
        steps.append("greeting test: off")
    else:
        action = Action.IGNORE if observe else rules.pregreet.action
        steps.append(
            f"greeting test: it waits {rules.pregreet.wait:g} s for the greeting; if it speaks before, it is {ACTION_WORDS[action]}"
        )
    if rules.dnsbl.sites:
        action = Action.IGNORE if observe else rules.dnsbl.action
        zones = ", ".join(dict.fromkeys(site.template for site in rules.dnsbl.sites))
        steps.append(
            f"block lists: {zones} are asked; at a score of {rules.dnsbl.threshold} it is {ACTION_WORDS[action]}"
        )
    steps += _dialogue(rules, observe=observe)
    if rules.exempt_recipients and not observe:
        steps.append(
            f"mail for {', '.join(rules.exempt_recipients)} gets through even where it is refused at RCPT"
        )
    if observe:
        steps.append("mode Observe: nobody is turned away")
    return steps


def _dialogue(rules: Rules, *, observe: bool) -> list[str]:
    """The tests after the greeting, and what comes of passing them."""
    protocol = rules.protocol
    tests = {
        "pipelining": protocol.pipelining,
        "non_smtp_command": protocol.non_smtp_command,
        "bare_newline": protocol.bare_newline,
    }
    steps = [
        f"{TEST_WORDS[name]}: a client that fails is {ACTION_WORDS[Action.IGNORE if observe else test.action]}"
        for name, test in tests.items()
        if test.enabled
    ]
    if steps and (observe or protocol.handover is Handover.INLINE):
        steps.append("if it passes, its session goes on with the MTA at the first recipient")
    elif steps:
        steps.append("if it passes, it is told to come back (450), and is handed over then")
    else:
        steps.append("if it passes, it is handed to the MTA with the greeting")
    return steps
