"""What happened on one connection, collected for its record."""

from __future__ import annotations

from typing import NamedTuple

from postwarden_sidecar.checks.action import CLEAN, Standing, acted_upon
from postwarden_sidecar.engine.actions import Endpoints
from postwarden_sidecar.engine.record import (
    MAX_EVENTS,
    MAX_TEXT,
    Event,
    EventKind,
    Lookup,
    Record,
    TestResult,
    Verdict,
)
from postwarden_sidecar.rules.settings import Action, Mode, PolicyRef

# Events that may come after refused recipients: three deep tests, the end's cause (a limit, HANGUP, a failed hand-off), PASS, DISCONNECT.
# Room is kept for them.
_LAST_EVENTS = 6
_CONNECTED = (Event(EventKind.CONNECT, 0.0),)


class Refused(NamedTuple):
    """A recipient that was refused, and what was known then; texts are bounded."""

    reply: bytes
    sender: str
    recipient: str
    helo: str
    proto: str


class Journal:
    """Events, tests and moments of a connection, and where its client stands by the tests. began: CLOCK_MONOTONIC seconds, wall: the same
    moment's epoch seconds."""

    __slots__ = (
        "began",
        "dialog_start",
        "events",
        "events_lost",
        "handoff_start",
        "lookups",
        "standing",
        "tests",
        "wall",
    )

    def __init__(self, began: float, wall: float) -> None:
        self.began = began
        self.wall = wall
        self.standing: Standing = CLEAN
        # Tuples: an empty one takes no memory of a client that only waits, and neither does the first event.
        self.events: tuple[Event, ...] = ()
        self.events_lost = 0
        self.tests: tuple[TestResult, ...] = ()
        self.lookups: tuple[Lookup, ...] = ()
        self.dialog_start = -1.0
        self.handoff_start = -1.0

    def wall_at(self, now: float) -> float:
        """Epoch seconds of a later moment."""
        return self.wall + (now - self.began)

    def event(
        self, kind: EventKind, now: float, text: str = "", count: int = 0, *, command: str = ""
    ) -> None:
        """Note an event. Each kind comes a bounded number of times (a test fails once a session), so these always find room."""
        if kind is EventKind.CONNECT and now == self.began and not self.events:
            self.events = _CONNECTED
            return
        event = Event(kind, now - self.began, text[:MAX_TEXT], count, command=command[:MAX_TEXT])
        self.events += (event,)

    def reject(self, now: float, refused: Refused) -> None:
        """Note a refused recipient, or count it if there are many."""
        if len(self.events) >= MAX_EVENTS - _LAST_EVENTS:
            self.events_lost += 1
            return
        reply, sender, recipient, helo, proto = refused
        text = reply.rstrip(b"\r\n").decode("latin-1")
        offset = now - self.began
        self.events += (Event(EventKind.REJECT, offset, text, 0, sender, recipient, helo, proto or "SMTP"),)

    def test(
        self, test: str, passed: bool | None, action: str, start: float, now: float, detail: str = ""
    ) -> None:
        """Note what a test found; passed None: it could not be run. start and now are CLOCK_MONOTONIC seconds."""
        outcome = "unknown" if passed is None else "pass" if passed else "fail"
        began = self.began
        self.tests += (TestResult(test, outcome, action, start - began, now - began, detail),)

    def failed(
        self,
        mode: Mode,
        test: str,
        action: Action,
        reason: str,
        start: float,
        now: float,
        detail: str = "",
        *,
        address: str = "",
        label: str = "",
    ) -> Action:
        """Note that the client failed a test, for which the policy says action, and what that makes of it (`checks.action`). start and now
        as in `test`. Returns the action acted upon."""
        self.standing = self.standing.failed(mode, test, action, reason, address=address, label=label)
        acted = acted_upon(mode, action)
        self.test(test, False, acted, start, now, detail)
        return acted

    def lookup(self, zone: str, outcome: str, start: float, end: float) -> None:
        """Note a DNSBL look-up; zone: the policy's template. Each zone is asked once, so these are bounded by the policy."""
        self.lookups += (Lookup(zone, outcome, start - self.began, end - self.began),)

    def record(
        self,
        verdict: Verdict,
        reason: str,
        endpoints: Endpoints,
        proxied: bool,
        policy: PolicyRef | None,
        now: float,
    ) -> Record:
        """The record; who decided, and what was said in the dialogue, is the caller's to add."""
        record = Record(
            self.wall,
            now - self.began,
            verdict,
            reason,
            endpoints.client_address,
            endpoints.client_port,
            endpoints.server_address,
            endpoints.server_port,
            endpoints.peer_address,
            endpoints.peer_port,
            proxied,
            dialog_start=self.dialog_start,
            handoff_start=self.handoff_start,
            tests=list(self.tests),
            events=list(self.events),
            events_lost=self.events_lost,
            lookups=list(self.lookups),
        )
        if policy is not None:
            record.policy_namespace = policy.namespace
            record.policy_name = policy.name
            record.policy_revision = policy.revision
        return record
