"""What a client passed before, and what it is to pass now: the records of the pass store.

A record has a field for each test: when its pass ends, epoch seconds; NEVER for a test that was on and not passed, NOT_ENABLED for one that
was off. A missing field reads as NOT_ENABLED, so that a record survives new tests. Only the word new in `PASS NEW` hangs on
the difference; for screening both are no pass.
"""

from __future__ import annotations

from collections.abc import Mapping

from postwarden_sidecar.checks import deep, dnsbl, pregreet
from postwarden_sidecar.rules.settings import Dnsbl, Pregreet, Protocol, Rules

NEVER = 0.0
CLOCK_JITTER = (
    1.0  # seconds that the wall clocks of two connections may be apart: each is read once, under load late
)
NOT_ENABLED = 1.0
TESTS: tuple[str, ...] = (pregreet.TEST, dnsbl.TEST, *deep.TESTS)
EARLY = frozenset((pregreet.TEST, dnsbl.TEST))
# Each set of tests once (there are 32 at most), not once for each client that waits: one takes 216 bytes.
_SHARED: dict[frozenset[str], frozenset[str]] = {}


def enabled(rules: Rules) -> frozenset[str]:
    """The tests that the rules turn on. Asked several times a connection: the last answer is remembered, with what it depends on and not
    the rules, whose access lists must not stay for it."""
    global _remembered
    (protocol, greeting, lists), tests = _remembered
    if protocol is not rules.protocol or greeting is not rules.pregreet or lists is not rules.dnsbl:
        tests = _enabled(rules)
        _remembered = (rules.protocol, rules.pregreet, rules.dnsbl), tests
    return tests


_remembered: tuple[tuple[Protocol | None, Pregreet | None, Dnsbl | None], frozenset[str]] = (
    (None, None, None),
    frozenset(),
)


def _enabled(rules: Rules) -> frozenset[str]:
    tests = {test for test in deep.TESTS if deep.settings(rules.protocol, test).enabled}
    if pregreet.enabled(rules):
        tests.add(pregreet.TEST)
    if dnsbl.enabled(rules):
        tests.add(dnsbl.TEST)
    return frozenset(tests)


def ttl(rules: Rules, test: str) -> float:
    """How long a pass of test may last at most, seconds."""
    if test == dnsbl.TEST:
        return rules.dnsbl.ttl_max
    own = rules.pregreet.ttl if test == pregreet.TEST else deep.settings(rules.protocol, test).ttl
    return max(own, rules.dnsbl.ttl_max) if rules.dnsbl.allow_threshold < 0 else own


def least_ttl(rules: Rules) -> float:
    """How long a test that failed under Ignore is not tested again: the least that any pass may last, seconds, as postscreen has it."""
    protocol = rules.protocol
    tests = (protocol.pipelining, protocol.non_smtp_command, protocol.bare_newline)
    return min(rules.pregreet.ttl, rules.dnsbl.ttl_min, *(test.ttl for test in tests))


def due(rules: Rules, known: Mapping[str, float], wall: float) -> frozenset[str]:
    """The enabled tests without a pass at wall (epoch seconds). One that lasts longer than a pass stored now would is a broken
    clock's, and counts as expired."""
    on = enabled(rules)
    if not known:
        return _SHARED.setdefault(on, on)
    left = frozenset(
        test for test in on if not wall < known.get(test, NEVER) <= wall + ttl(rules, test) + CLOCK_JITTER
    )
    return _SHARED.setdefault(left, left)


def passed_before(address: str) -> str:
    """What is said of a client that is let in for its passes: one sentence's worth, for a person."""
    return f"{address} passed the tests before"


def is_new(known: Mapping[str, float]) -> bool:
    """The client has not passed before all that was on then."""
    return not known or NEVER in known.values()


def record(rules: Rules, known: Mapping[str, float], earned: Mapping[str, float]) -> dict[str, float]:
    """What to store of a client that earned passes: those, and fields of the tests that are on and were never passed."""
    on = enabled(rules)
    fresh = {test: NEVER for test in on if test not in known}
    off = {test: NOT_ENABLED for test, expiry in known.items() if expiry == NEVER and test not in on}
    return fresh | off | dict(earned)
