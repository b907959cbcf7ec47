"""The tests before the greeting is complete, side by side: whether the client keeps silent, and what the block lists say.

The wait ends when its time is up, or as soon as nothing more can come: an early talker is not waited for once the lists have answered, and
without a greeting test the lists' last answer ends it (measured on postscreen). What a list says is acted upon at the end only.
"""

from __future__ import annotations

from postwarden_sidecar.checks import dnsbl, passes, pregreet
from postwarden_sidecar.checks.action import Standing
from postwarden_sidecar.checks.facts import Facts
from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind
from postwarden_sidecar.rules.settings import Action, Rules


class EarlyTests:
    """due: the tests to be passed, deep ones too. passed: test -> epoch seconds when its pass ends. over: nothing more can come."""

    __slots__ = (
        "_answers",
        "_began",
        "_due",
        "_facts",
        "_journal",
        "_pending",
        "_rules",
        "_silence_over",
        "_standing",
        "deadline",
        "passed",
    )

    def __init__(
        self,
        rules: Rules,
        facts: Facts,
        standing: Standing,
        journal: Journal,
        due: frozenset[str],
        wait: float,
        now: float,
    ) -> None:
        """wait: seconds. The client is to keep silent from now on."""
        self._rules = rules
        self._facts = facts
        self._standing = standing
        self._journal = journal
        self._due = due
        self._began = now
        self._answers: dict[str, dnsbl.Answer] = {}
        self._pending = set(dnsbl.zones(rules.dnsbl)) if self.asks else set()
        self._silence_over = not self.listens
        self.passed: dict[str, float] = {}
        self.deadline = now + (wait if self.listens else min(wait, rules.dnsbl.timeout))

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

    def spoke(self, data: bytes, now: float) -> Action | None:
        """The client spoke before the greeting was complete. Returns the action acted upon, None if it had spoken before."""
        if self._silence_over:
            return None
        self._silence_over = True
        facts = self._facts
        facts.said = data[:MAX_TEXT]
        self._journal.event(EventKind.PREGREET, now, facts.said.decode("latin-1"), len(data))
        reason = (
            f"{facts.address} spoke before the greeting was complete, {now - self._began:.1f} s into the wait"
        )
        setting = self._rules.pregreet
        acted = self._standing.fail(self._rules.mode, pregreet.TEST, setting.action, reason)
        self._journal.test(pregreet.TEST, False, acted, self._began, now)
        return acted

    def answered(self, answer: DnsblAnswer, now: float) -> None:
        """A list has answered; an answer that comes twice, or of a zone that was not asked, is left out."""
        if answer.zone not in self._pending:
            return
        self._pending.discard(answer.zone)
        template = next(site.template for site in self._rules.dnsbl.sites if site.zone == answer.zone)
        self._journal.lookup(template, answer.outcome, answer.start, answer.end)
        if not answer.failed:
            self._answers[answer.zone] = dnsbl.Answer(answer.addresses, answer.ttl)
        if not self._pending and not self._standing.refusal and not self._facts.said:
            score = dnsbl.score(self._rules.dnsbl, self._answers)
            if dnsbl.allows(self._rules.dnsbl, score.total):
                self._allow(score.ttl, now)

    def _allow(self, seconds: float, now: float) -> None:
        """The lists know the client for a good one: all that is due is passed, as long as their answers last."""
        self._silence_over = True
        expiry = self._journal.wall_at(now) + seconds
        self.passed = {test: expiry for test in self._due if test != dnsbl.TEST}

    def conclude(self, now: float) -> Action | None:
        """The wait is over. Returns the action acted upon where a list has the client, else None."""
        wall = self._journal.wall_at(now)
        rules, facts = self._rules, self._facts
        if self.listens and not facts.said:
            self.passed.setdefault(pregreet.TEST, pregreet.expiry(rules, wall))
            self._journal.test(pregreet.TEST, True, "", self._began, now)
        self._silence_over = True
        if not self.asks:
            return None
        score = dnsbl.score(rules.dnsbl, self._answers)
        detail = f"score {score.total}"
        if score.total < rules.dnsbl.threshold:
            self.passed[dnsbl.TEST] = wall + score.ttl
            self._journal.test(dnsbl.TEST, True, "", self._began, now, detail)
            return None
        self._journal.event(EventKind.DNSBL, now, score.label, score.total)
        reason = f"{facts.address} is listed by {score.label}, with a score of {score.total}"
        acted = self._standing.fail(
            rules.mode, dnsbl.TEST, rules.dnsbl.action, reason, address=facts.address, label=score.label
        )
        self._journal.test(dnsbl.TEST, False, acted, self._began, now, detail)
        return acted

    @property
    def unpassed(self) -> frozenset[str]:
        """The early tests that are due and not passed."""
        return (self._due & passes.EARLY) - self.passed.keys()
