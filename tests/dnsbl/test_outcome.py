"""What a reply of a list means."""

from __future__ import annotations

import pytest
from postwarden_sidecar.dns.attempts import Attempts
from postwarden_sidecar.dns.message import Reply
from postwarden_sidecar.dns.outcome import Finding, Outcome, judge

LISTED = b"\x7f\0\0\2"


def test_addresses_of_127_are_a_listing() -> None:
    assert judge(Reply(0, False, (LISTED, b"\x7f\1\2\3"), 60)) == Finding(
        Outcome.LISTED, (LISTED, b"\x7f\1\2\3"), 60.0
    )


@pytest.mark.parametrize("rcode", [0, 3])
def test_no_address_is_not_listed(rcode: int) -> None:
    finding = judge(Reply(rcode, False, (), 300))
    assert finding == Finding(Outcome.NOT_LISTED, (), 300.0)
    assert not finding.failed
    assert judge(Reply(rcode, False, (), None)).ttl == 0.0


@pytest.mark.parametrize("bad", [b"\x7f\xff\xff\xfe", b"\x7f\xff\xff\x00", b"\xc0\0\2\1", b"\0\0\0\0"])
def test_an_answer_that_is_no_listing_never_scores(bad: bytes) -> None:
    for addresses in ((bad,), (LISTED, bad)):
        finding = judge(Reply(0, False, addresses, 60))
        assert finding == Finding(Outcome.BLOCKED)
        assert finding.failed


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_an_error_of_the_resolver_never_scores(rcode: int) -> None:
    assert judge(Reply(rcode, False, (), None)) == Finding(Outcome.ERROR)


def test_resolvers_are_asked_in_turn_but_for_those_that_refused() -> None:
    attempts = Attempts(3)
    assert attempts.next() == 0
    attempts.fail(0)
    assert attempts.next_unasked() == 1
    assert [attempts.next() for _ in range(3)] == [2, 1, 2]
    assert attempts.next_unasked() is None
    attempts.fail(1)
    attempts.fail(1)
    assert attempts.next() == 2
    assert not attempts.exhausted
    attempts.fail(2)
    assert attempts.exhausted
    assert attempts.next() is None
    assert Attempts(0).exhausted
