"""The tests before the greeting is complete, side by side: whether the client keeps silent, and what the block lists say.

The wait ends when its time is up, or as soon as nothing more can come: an early talker is not waited for once the lists have answered, and
without a greeting test the lists' last answer ends it (measured on postscreen). What a list says is acted upon at the end only.
"""

from __future__ import annotations

from collections.abc import Mapping

from postwarden_sidecar.checks import dnsbl, passes, pregreet
from postwarden_sidecar.checks.facts import NO_PASSES, Facts
from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind
from postwarden_sidecar.rules.settings import Action, Rules

SILENT = "timeout"  # the outcome of a look-up that nobody answered (`dns.outcome`)
_NO_ANSWERS: dict[str, DnsblAnswer] = {}  # of all who wait for the first; replaced, never filled
MAX_PREGREET = 1023  # bytes of what is said too early that are counted; as much as postscreen looks at


class EarlyTests:
    """due: the tests to be passed, deep ones too. passed: test -> epoch seconds when its pass ends. over: nothing more can come. refused:
    the client spoke too early, and is not let through for it: it gets no greeting."""

    __slots__ = (
        "_answers",
        "_began",
        "_due",
        "_earns",
        "_facts",
        "_journal",
        "_pending",
        "_rules",
        "_silence_over",
        "passed",
        "refused",
    )

    def __init__(
        self,
        rules: Rules,
        facts: Facts,
        journal: Journal,
        due: frozenset[str],
        now: float,
        *,
        earns: bool = True,
    ) -> None:
        """The client is to keep silent from now on. earns: it may be let off the other tests."""
        self._rules = rules
        self._facts = facts
        self._journal = journal
        self._due = due
        self._began = now
        self._answers = _NO_ANSWERS  # by zone, usable or not
        # How many zones are waited for.
        self._pending = len(dnsbl.zones(rules.dnsbl)) if self.asks else 0
        self.passed: Mapping[str, float] = NO_PASSES
        # Beside each other: compiled they share a word of each client that waits.
        self._earns = earns
        self._silence_over = not self.listens
        self.refused = False

    @property
    def listens(self) -> bool:
        """The greeting test is due."""
        return pregreet.TEST in self._due

    @property
    def asks(self) -> bool:
        """The lists are to be asked."""
        return dnsbl.TEST in self._due

    @property
    def over(self) -> bool:
        return self._silence_over and not self._pending

    @property
    def listed(self) -> bool:
        """By the lists that have answered so far."""
        return (
            self.asks and dnsbl.score(self._rules.dnsbl, self._answers).total >= self._rules.dnsbl.threshold
        )

    def spoke(self, data: bytes, now: float) -> Action | None:
        """The client spoke before the greeting was complete. Returns the action acted upon, None if it had spoken before."""
        if self._silence_over:
            return None
        self._silence_over = True
        facts = self._facts
        facts.said = data[:MAX_TEXT]
        self._journal.event(
            EventKind.PREGREET, now, facts.said.decode("latin-1"), min(len(data), MAX_PREGREET)
        )
        reason = pregreet.failure(facts.address, now - self._began)
        setting = self._rules.pregreet
        acted = self._journal.failed(
            self._rules.mode, pregreet.TEST, setting.action, reason, self._began, now
        )
        self.refused = acted is not Action.IGNORE
        return acted

    def answered(self, answer: DnsblAnswer, now: float) -> None:
        """A list has answered; an answer that comes twice, or of a zone that was not asked, is left out."""
        zone, answers = answer.zone, self._answers
        if zone in answers or not self.asks or zone not in dnsbl.zones(self._rules.dnsbl):
            return
        self._note(zone, answer.outcome, answer.start, answer.end)
        if answers:
            answers[zone] = answer
        else:
            self._answers = {zone: answer}
        if answer.outcome == SILENT:
            return  # one that is silent is waited for till the end (measured)
        self._pending -= 1
        if not self._pending and not self._facts.said:
            self._allow(now)

    def _note(self, zone: str, outcome: str, start: float, end: float) -> None:
        for site in self._rules.dnsbl.sites:
            if site.zone == zone:
                self._journal.lookup(site.template, outcome, start, end)
                return

    def _allow(self, now: float) -> None:
        """If the lists know the client for a good one: all other tests are passed as long as their answers last, or longer."""
        lists = self._rules.dnsbl
        if self._journal.standing.refusal or not self._earns or lists.allow_threshold >= 0:
            return
        score = dnsbl.score(lists, self._answers)
        if not dnsbl.allows(lists, score.total):
            return
        self._silence_over = True
        expiry = self._journal.wall_at(now) + score.ttl
        for test in passes.enabled(self._rules) - {dnsbl.TEST}:
            known = self.passed.get(test, self._facts.passes.get(test, passes.NEVER))
            if test in self._due or known < expiry:
                self._pass(test, max(known, expiry))

    def _pass(self, test: str, expiry: float) -> None:
        self.passed = {**self.passed, test: expiry}

    def conclude(self, now: float) -> Action | None:
        """The wait is over. Returns the action acted upon where a list has the client, else None."""
        wall = self._journal.wall_at(now)
        rules, facts = self._rules, self._facts
        if self.listens and not facts.said:
            if pregreet.TEST not in self.passed:
                self._pass(pregreet.TEST, pregreet.expiry(rules, wall))
            self._journal.test(pregreet.TEST, True, "", self._began, now)
        self._silence_over = True
        if not self.asks:
            return None
        if self._pending:
            # The wait was shorter than the lists' time limit.
            for zone in sorted([zone for zone in dnsbl.zones(rules.dnsbl) if zone not in self._answers]):
                self._note(zone, SILENT, self._began, now)
        score = dnsbl.score(rules.dnsbl, self._answers)
        if self._pending:  # some are silent: what the others said counts
            self._allow(now)
        detail = f"score {score.total}"
        if score.total < rules.dnsbl.threshold:
            self._pass(dnsbl.TEST, wall + score.ttl)
            # If no list gave a usable answer, nothing is known against it.
            known = True if any(not answer.failed for answer in self._answers.values()) else None
            self._journal.test(dnsbl.TEST, known, "", self._began, now, detail)
            return None
        self._journal.event(EventKind.DNSBL, now, score.label, score.total)
        reason = f"{facts.address} is listed by {score.label}, with a score of {score.total}"
        action, address = rules.dnsbl.action, facts.address
        return self._journal.failed(
            rules.mode,
            dnsbl.TEST,
            action,
            reason,
            self._began,
            now,
            detail,
            address=address,
            label=score.label,
        )

    @property
    def unpassed(self) -> frozenset[str]:
        """The early tests that are due and not passed."""
        return (self._due & passes.EARLY).difference(self.passed)
