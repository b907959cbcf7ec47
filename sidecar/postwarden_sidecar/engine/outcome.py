"""The one record of a connection, put together when its verdict is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from postwarden_sidecar.checks import access, dnsbl, pregreet
from postwarden_sidecar.checks.deep import TESTS as DEEP_TESTS
from postwarden_sidecar.engine.actions import Endpoints
from postwarden_sidecar.engine.conversation import Conversation
from postwarden_sidecar.engine.journal import Journal
from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult, Verdict
from postwarden_sidecar.engine.screening import Screening
from postwarden_sidecar.rules.settings import Action, EnvelopeAddresses, Mode, Rules

_ORDER = (pregreet.TEST, dnsbl.TEST, *DEEP_TESTS)


def final_record(
    journal: Journal,
    screening: Screening,
    conversation: Conversation | None,
    endpoints: Endpoints,
    proxied: bool,
    rules: Rules | None,
    now: float,
) -> Record:
    """What is known of the connection at its end; how it was handed over is the caller's to add."""
    policy = None if rules is None else rules.policy
    record = journal.record(screening.verdict, screening.reason, endpoints, proxied, policy, now)
    standing = screening.standing
    record.test = standing.test or _let_through(screening, rules)
    if standing.test:
        record.action, record.would = standing.action, standing.would
    if screening.vetoed and rules is not None and rules.mode is Mode.OBSERVE:
        record.would = record.would or Verdict.DEFERRED.value
    if conversation is not None:
        dialog = conversation.dialog
        record.helo, record.proto = dialog.helo, dialog.proto
        record.sender, record.recipient = dialog.sender, dialog.recipient
    if rules is not None:
        record.envelope, record.envelope_key = envelope(rules)
    return record


def template(rules: Rules, verdict: Verdict, test: str, reason: str, events: Iterable[EventKind]) -> Record:
    """Of records that are the same but for who and when (`engine.alike`). reason: without the client's address."""
    policy = rules.policy
    shown, key = envelope(rules)
    return Record(
        0.0,
        0.0,
        verdict,
        reason,
        *("", 0, "", 0, "", 0),  # who
        False,
        test=test,
        policy_namespace=policy.namespace,
        policy_name=policy.name,
        policy_revision=policy.revision,
        events=[Event(kind, 0.0) for kind in events],
        envelope=shown,
        envelope_key=key,
    )


def dropped(rules: Rules, test: str, reason: str, events: Iterable[EventKind]) -> Record:
    """The same of whoever a test drops."""
    record = template(rules, Verdict.DROPPED, test, reason, events)
    record.action = Action.DROP
    record.tests = [TestResult(test, "fail", Action.DROP)]
    return record


def envelope(rules: Rules) -> tuple[str, str]:
    """Of a record: what may be shown of its addresses, and the key of their hashes."""
    shown = rules.envelope_addresses
    if shown is EnvelopeAddresses.FULL:
        return "", ""
    return shown.value, rules.policy.uid if shown is EnvelopeAddresses.HASHED else ""


def _let_through(screening: Screening, rules: Rules | None) -> str:
    """The test that let the client through."""
    if screening.verdict is Verdict.ALLOWLISTED:
        return access.TEST
    if screening.verdict not in (Verdict.PASS_OLD, Verdict.PASS_NEW) or rules is None:
        return ""
    passed = screening.passed or screening.facts.passes
    return first_passed(passed)


def first_passed(passed: Mapping[str, float]) -> str:
    """Of tests that a client passed, the one to be named: the greeting test, if it was on."""
    return next((test for test in _ORDER if test in passed), "")
