"""The tests within the dialogue for one client: which run, which it failed, which it passed."""

from __future__ import annotations

from postwarden_sidecar.checks import deep, passes
from postwarden_sidecar.checks.action import Standing
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import EventKind
from postwarden_sidecar.rules.settings import Action, Rules

MAX_PART = 100  # characters of a non-SMTP command's first word, and of what follows it, that are kept; as postscreen logs


class DeepTests:
    """A test that failed is over for this session. passed: test -> epoch seconds when its pass ends; what failed under Ignore counts as
    passed for a while (as postscreen has it: not tested again in the next session), but not what only mode Observe made an Ignore of.
    """

    __slots__ = ("_began", "_failed", "_journal", "_rules", "_running", "passed")

    def __init__(self, rules: Rules, running: frozenset[str], journal: Journal, now: float) -> None:
        self._rules = rules
        self._running = set(running)
        self._journal = journal
        self._began = now
        self._failed: set[str] = set()
        self.passed: dict[str, float] = {}

    @property
    def standing(self) -> Standing:
        """The client's, with what it failed here."""
        return self._journal.standing

    def bare_newline(self, line: bytes, now: float) -> Action | None:
        """line, without its end, ended in a bare LF. Returns the action acted upon, None if the test is not running."""
        text = line.decode("latin-1")
        return self._fail(deep.BARE_NEWLINE, EventKind.BARE_NEWLINE, text, "", now)

    def unknown_command(self, word: bytes, line: bytes, before: str, now: float) -> Action | None:
        """line begins with word, which is no command; before: the last command's name. Returns as `bare_newline`."""
        if deep.NON_SMTP_COMMAND not in self._running:
            return None
        if not deep.is_non_smtp(word, self._rules.protocol.forbidden_commands):
            return None
        rest = line[len(word) + 1 :]
        text = (word[:MAX_PART] + b" " + rest[:MAX_PART] if rest else word[:MAX_PART]).decode("latin-1")
        return self._fail(deep.NON_SMTP_COMMAND, EventKind.NON_SMTP_COMMAND, text, before, now)

    def pipelining(self, command: str, waiting: bytes, now: float) -> Action | None:
        """waiting: what is in the buffer behind the command. Returns as `bare_newline`."""
        if not waiting:
            return None
        text = waiting.decode("latin-1")
        return self._fail(deep.PIPELINING, EventKind.COMMAND_PIPELINING, text, command, now)

    def well_behaved(self, now: float) -> None:
        """The client has come as far as RCPT (or STARTTLS): what runs is passed, though it may fail later yet."""
        wall = self._journal.wall_at(now)
        for test in [test for test in deep.TESTS if test in self._running and test not in self.passed]:
            self.passed[test] = wall + deep.settings(self._rules.protocol, test).ttl
            self._journal.test(test, True, "", self._began, now)

    @property
    def failed(self) -> frozenset[str]:
        """What failed, and is not to be stored as passed."""
        return frozenset(self._failed)

    def _fail(self, test: str, kind: EventKind, text: str, command: str, now: float) -> Action | None:
        if test not in self._running:
            return None
        self._running.discard(test)
        self.passed.pop(test, None)
        self._journal.event(kind, now, text, command=command)
        setting = deep.settings(self._rules.protocol, test)
        reason = _REASONS[test]
        acted = self._journal.failed(self._rules.mode, test, setting.action, reason, self._began, now)
        if setting.action is not Action.IGNORE:
            self._failed.add(test)
        else:
            self.passed[test] = self._journal.wall_at(now) + passes.least_ttl(self._rules)
        return acted


_REASONS = {
    deep.PIPELINING: "it sent a command before the reply to the one before, which was not offered",
    deep.NON_SMTP_COMMAND: "it sent what is no SMTP command",
    deep.BARE_NEWLINE: "it ended a line in a bare newline",
}
