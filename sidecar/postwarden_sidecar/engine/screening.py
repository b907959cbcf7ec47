"""The early tests of one client in their order, and what is to be done after each. It sends nothing: `connection` does what it says."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from postwarden_sidecar.checks import access, pregreet
from postwarden_sidecar.checks.action import Standing
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind, Verdict
from postwarden_sidecar.rules.settings import AccessAction, Action, Rules

# The test that let a client through, by verdict.
DECIDED_BY = {
    Verdict.ALLOWLISTED: access.TEST,
    Verdict.PASS_OLD: pregreet.TEST,
    Verdict.PASS_NEW: pregreet.TEST,
}


class Step(enum.Enum):
    """What is to be done with a client now."""

    LOOK_UP = "look_up"  # ask whether it passed before
    WAIT = "wait"  # let it wait for the greeting, and listen
    HAND_OFF = "hand_off"
    CONVERSE = "converse"  # an Enforce is pending: our dialogue
    DROP = "drop"
    DEFER = "defer"  # no rules, and clients are to wait until there are


class Screening:
    """facts: the client's. verdict, reason: as they stand; final when the step is HAND_OFF, DROP or DEFER.

    earned: expiries of passes to store (test -> epoch seconds), empty if none.
    """

    __slots__ = ("_context", "_journal", "_wait_began", "earned", "facts", "reason", "standing", "verdict")

    def __init__(self, context: Context, facts: Facts, journal: Journal) -> None:
        self._context = context
        self._journal = journal
        self._wait_began = 0.0
        self.facts = facts
        self.standing = Standing()
        self.verdict = Verdict.UNSCREENED
        self.reason = ""
        self.earned: dict[str, float] = {}

    def begin(self, now: float) -> Step:
        """The client is known (a PROXY header is read): the access list."""
        self._journal.event(EventKind.CONNECT, now)
        rules = self._context.rules
        if rules is None:
            self.reason = "no policy is in force"
            if not self._context.defer:
                return Step.HAND_OFF
            self.verdict = Verdict.DEFERRED
            return Step.DEFER
        match = access.evaluate(rules, self.facts)
        step = None if match is None else self._apply(rules, match, now)
        if step is not None:
            return step
        if self.standing.refusal:  # a pass would change nothing
            return Step.WAIT if pregreet.enabled(rules) else self._converse()
        if pregreet.enabled(rules):
            return Step.LOOK_UP
        return self._hand_off(Verdict.UNSCREENED, f"no test is on for {self.facts.address}")

    def _apply(self, rules: Rules, match: access.Match, now: float) -> Step | None:
        """What the access list's row says; None: the tests go on."""
        address = self.facts.address
        if match.action is AccessAction.REJECT:
            self._journal.event(EventKind.DENYLISTED, now)
            reason = f"{address} is rejected by {match.place}"
            acted = self.standing.fail(rules.mode, access.TEST, rules.access.reject_action, reason)
            self._journal.test(access.TEST, False, acted, now, now, match.place)
            return self._drop() if acted is Action.DROP else None
        self._journal.test(access.TEST, True, "", now, now, match.place)
        if match.action is AccessAction.DUNNO:
            return None
        self._journal.event(EventKind.ALLOWLISTED, now)
        return self._hand_off(Verdict.ALLOWLISTED, f"{address} is permitted by {match.place}")

    def receive_pass(self, rules: Rules, expiries: Mapping[str, float], now: float) -> Step:
        """What the store knows, asked twice: before the wait, and after it, for another connection of the client may have passed
        meanwhile (postscreen logs PASS OLD for the second of two, and for a client whose pass has expired; measured)."""
        self.facts.passes = expiries
        address = self.facts.address
        wall = self._journal.wall_at(now)
        if pregreet.has_pass(rules, self.facts, wall):
            self._journal.event(EventKind.PASS_OLD, now)
            return self._hand_off(Verdict.PASS_OLD, f"{address} passed the greeting test before")
        if not self.facts.waited:
            return Step.WAIT
        self._journal.event(EventKind.PASS_OLD if expiries else EventKind.PASS_NEW, now)
        self.earned = {pregreet.TEST: pregreet.expiry(rules, wall)}
        reason = f"{address} kept silent for {rules.pregreet.wait:g} s, until the greeting"
        return self._hand_off(Verdict.PASS_NEW, reason)

    def begin_wait(self, now: float) -> None:
        """The wait begins: from now on the client is to keep silent."""
        self._wait_began = now

    def spoke(self, rules: Rules, data: bytes, now: float) -> Step:
        """The client spoke before the greeting was complete."""
        facts = self.facts
        facts.said = data[:MAX_TEXT]
        self._journal.event(EventKind.PREGREET, now, facts.said.decode("latin-1"), len(data))
        moment = f"{now - self._wait_began:.1f} s into the wait"
        reason = f"{facts.address} spoke before the greeting was complete, {moment}"
        acted = self.standing.fail(rules.mode, pregreet.TEST, rules.pregreet.action, reason)
        self._journal.test(pregreet.TEST, False, acted, self._wait_began, now)
        if acted is Action.DROP:
            return self._drop()
        return self._converse() if self.standing.refusal else self._hand_off(Verdict.TOLERATED, reason)

    def waited(self, now: float) -> Step:
        """The wait is over, and the client kept silent."""
        self.facts.waited = True
        self._journal.test(pregreet.TEST, True, "", self._wait_began, now)
        return self._converse() if self.standing.refusal else Step.LOOK_UP

    def _drop(self) -> Step:
        self.verdict, self.reason = Verdict.DROPPED, self.standing.reason
        return Step.DROP

    def _converse(self) -> Step:
        self.verdict, self.reason = Verdict.REJECTED, self.standing.reason
        return Step.CONVERSE

    def _hand_off(self, verdict: Verdict, reason: str) -> Step:
        """A permitted client, one that passed, or one that failed only what is ignored."""
        failed = bool(self.standing.test)
        self.verdict = Verdict.TOLERATED if failed else verdict
        self.reason = self.standing.reason if failed else reason
        return Step.HAND_OFF
