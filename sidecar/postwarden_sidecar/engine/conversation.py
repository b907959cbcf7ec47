"""The dialogue with one client as a part of its screening: what is said goes to the journal, what is passed or failed to the client's
standing, and a session that may go on with the MTA is marked for it. `dialog` has the words, `connection` the socket."""

from __future__ import annotations

from typing import NamedTuple

from postwarden_sidecar.engine import naming, replies
from postwarden_sidecar.engine.actions import HandoverOutcome, Replay
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.deep_tests import DeepTests
from postwarden_sidecar.engine.dialog import Dialog, Ending
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind, Verdict
from postwarden_sidecar.engine.screening import Screening
from postwarden_sidecar.rules.settings import Mode, Rules

OBSERVED_TIME_LIMIT = (
    3600.0  # seconds between commands of a slow client under Observe, which lets it on: as a relay's silence
)
# Seconds for QUIT after an exempt mail: some clients take a 421 to it for a mail that was not taken (smtplib's context manager raises;
# measured). Time for several round trips half around the world.
QUIT_LIMIT = 2.0
_LIMITS = {Ending.COUNT: EventKind.COMMAND_COUNT_LIMIT, Ending.LENGTH: EventKind.COMMAND_LENGTH_LIMIT}
_WORDS = {
    Ending.QUIT: "it left before it was done",
    Ending.ONE_MAIL: "it had its one mail",
    Ending.DATA: "it sent data without a recipient",
    Ending.COUNT: "it sent too many commands",
    Ending.LENGTH: "it sent too long a line",
}


class Turn(NamedTuple):
    """What came of the client's words: answers, and then the end (over), or the hand-over (replay), or more words."""

    answers: bytes
    over: bool
    replay: Replay | None = None


class Conversation:
    """deadline: until when the next command is to be complete; now: when it was last told something; CLOCK_MONOTONIC seconds."""

    __slots__ = (
        "_journal",
        "_observe",
        "_refused",
        "_screening",
        "_seen",
        "_slow",
        "deadline",
        "dialog",
        "now",
    )

    def __init__(
        self, context: Context, rules: Rules, screening: Screening, journal: Journal, now: float
    ) -> None:
        self._screening = screening
        self._journal = journal
        self._observe = rules.mode is Mode.OBSERVE
        self._refused = 0  # recipients that are in the journal
        self._seen: set[Ending] = set()  # limits that are in the journal
        self._slow = False  # the time limit is over, and Observe lets the client on
        self.deadline = now + screening.time_limit
        self.now = now
        refusal = screening.standing.refusal
        if not refusal and not (screening.fit and screening.inline):
            refusal = replies.COME_BACK
        self.dialog = Dialog(
            naming.hostname(context),
            _offered(context.ehlo, screening.load.unoffered),
            refusal,
            screening.session,
            DeepTests(rules, screening.deep_due, journal, now),
            enforced=not screening.fit,
            observe=self._observe,
            exempt=rules.exempt_recipients,
        )

    def receive(self, data: bytes, now: float) -> Turn:
        """The client's words."""
        self.now = now
        commands = self.dialog.commands
        answers = self.dialog.receive(data, now)
        if self.dialog.commands > commands:  # the limit is for a whole command, not for one byte
            self._wait_on(now)
        return self._turn(answers, now)

    def not_taken(self, outcome: HandoverOutcome, reply: bytes, now: float) -> Turn:
        """The MTA has not taken the session, and this is what the client is to hear: the MTA's word on it, or the driver's."""
        self.now = now
        if outcome in (HandoverOutcome.EXEMPTED, HandoverOutcome.BARE_NEWLINE):
            return self._data_over(outcome, reply, now)
        said = _last_line(reply)
        replay = self.dialog.replay
        exempt = replay is not None and replay.exempt
        if not reply.startswith(b"5") and (outcome is HandoverOutcome.CLOSE or not exempt):
            what = "mail to an exempt recipient" if exempt else "session"
            self._screening.judge(Verdict.DEFERRED, f"the MTA did not take the {what}: {said}")
        if outcome is HandoverOutcome.CLOSE:
            self._journal.event(EventKind.HANDOFF_FAILED, now, said)
            if exempt and self._screening.verdict is not Verdict.DEFERRED:
                self._screening.judge_unfinished("its mail to an exempt recipient was refused", told=True)
            return Turn(reply, over=True)
        self._wait_on(now)
        return self._turn(self.dialog.resume(reply, now), now)

    def _data_over(self, outcome: HandoverOutcome, reply: bytes, now: float) -> Turn:
        """The data of a mail to exempt recipients went to the MTA, or was refused on its way. One such mail a connection."""
        screening, dialog = self._screening, self.dialog
        why = screening.standing.reason
        if outcome is HandoverOutcome.BARE_NEWLINE:
            self._journal.event(EventKind.BARE_NEWLINE, now, "in the data of a mail to an exempt recipient")
            screening.judge(
                Verdict.REJECTED, f"{why}; and its mail to an exempt recipient held a bare newline"
            )
            return Turn(dialog.dressed(replies.BARE_NEWLINE), over=True)
        screening.judge(
            Verdict.EXEMPTED, f"{why}; its mail to an exempt recipient was answered: {_last_line(reply)}"
        )
        dialog.finish()
        self.deadline = now + QUIT_LIMIT
        return Turn(reply, over=False)

    def too_slow(self, now: float) -> Turn:
        """The deadline is reached."""
        dialog = self.dialog
        if self._screening.verdict is Verdict.EXEMPTED:
            return Turn(dialog.dressed(replies.ONE_MAIL), over=True)
        if not self._slow:
            self._journal.event(EventKind.COMMAND_TIME_LIMIT, now, dialog.last)
        if self._observe and not self._slow:
            self._slow = True
            self._wait_on(now)
            return Turn(b"", over=False)
        self._screening.judge_unfinished("it was too slow with a command", told=bool(dialog.refused))
        return Turn(dialog.dressed(replies.timeout(dialog.hostname)), over=True)

    def _wait_on(self, now: float) -> None:
        self.deadline = now + (OBSERVED_TIME_LIMIT if self._slow else self._screening.time_limit)

    def _turn(self, answers: bytes, now: float) -> Turn:
        dialog, screening = self.dialog, self._screening
        for recipient in dialog.refused[self._refused :]:
            self._journal.reject(now, recipient)
        self._refused = len(dialog.refused)
        for limit in dialog.over_limit.keys() - self._seen:
            self._seen.add(limit)
            self._journal.event(_LIMITS[limit], now, dialog.over_limit[limit])
        if dialog.tests is not None:
            passed, failed = {**screening.passed, **dialog.tests.passed}, dialog.tests.failed
            screening.passed = {test: expiry for test, expiry in passed.items() if test not in failed}
        if dialog.ending is not None:
            self._end(dialog.ending, now)
            return Turn(answers, over=True)
        if dialog.replay is not None and not dialog.replay.exempt:
            self._judge_fit()
        return Turn(answers, over=False, replay=dialog.replay)

    def _judge_fit(self) -> None:
        screening = self._screening
        standing = screening.standing
        if standing.test:
            screening.judge(Verdict.TOLERATED, standing.reason)
        else:
            screening.judge(Verdict.PASS_NEW, f"{screening.facts.address} passed the tests in the dialogue")

    def _end(self, ending: Ending, now: float) -> None:
        screening, dialog = self._screening, self.dialog
        address = screening.facts.address
        if ending is Ending.DATA:
            self._journal.event(EventKind.DATA_WITHOUT_RCPT, now, dialog.last)
        if ending is Ending.NOT_LEARNED:
            screening.judge(Verdict.DEFERRED, "what the upstream offers after EHLO is not known yet")
        elif ending is Ending.DROPPED:
            screening.judge(Verdict.DROPPED, f"{address}: {screening.standing.reason}")
        elif ending is Ending.BEHIND_STARTTLS:
            screening.judge(Verdict.DEFERRED, f"{address} sent input behind STARTTLS, before TLS was on")
        else:
            screening.judge_unfinished(_WORDS[ending], told=bool(dialog.refused))


def _last_line(reply: bytes) -> str:
    return reply.splitlines()[-1][:MAX_TEXT].decode("latin-1") if reply else ""


def _offered(learned: tuple[str, ...] | None, unoffered: frozenset[str]) -> tuple[str, ...] | None:
    """Of what was learned, what the MTA offers to this client as well."""
    if learned is None or not unoffered:
        return learned
    return tuple(line for line in learned if line.partition(" ")[0].upper() not in unoffered)
