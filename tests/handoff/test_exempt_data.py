"""The data of a mail to exempt recipients: byte for byte up to the dot, under every split; bare newlines; what the client is told."""

from __future__ import annotations

import re

import pytest
from handoff.exempt_mta import (
    BODY,
    BYE,
    DATA,
    LAST,
    LATER,
    LOST,
    NO,
    NOOP,
    ODD,
    QUEUED,
    but,
    record_of,
    rules,
    taken,
)
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.actions import HandoverOutcome
from postwarden_sidecar.engine.record import EventKind, Verdict
from postwarden_sidecar.handoff.exempt_data import DataFilter, ExemptData
from postwarden_sidecar.handoff.replay import ReplayLimits
from postwarden_sidecar.rules.settings import Session


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("reply", [LATER, NO, b"250-2.0.0 a\r\n250 2.0.0 b\r\n"])
def test_the_mtas_word_on_the_mail_goes_to_the_client(reply: bytes, size: int) -> None:
    wire = taken(but(dot=reply), size=size)
    wire.say(DATA)
    assert wire.say(BODY) == reply
    assert wire.say(NOOP) == LAST
    assert record_of(wire).verdict is Verdict.EXEMPTED


@pytest.mark.parametrize("odd", [*ODD.values(), BYE], ids=[*ODD, "421"])
def test_an_mta_that_is_lost_after_the_dot_leaves_the_mail_with_the_client(odd: bytes | None) -> None:
    wire = taken(but(dot=odd))
    wire.say(DATA)
    assert wire.say(BODY) == (BYE if odd == BYE else LOST)
    assert record_of(wire).verdict is Verdict.DEFERRED


def test_who_says_quit_after_its_mail_hears_221_and_who_says_nothing_421() -> None:
    """A client that gets 421 to QUIT may take its mail for lost (smtplib)."""
    for size in (0, 1):
        wire = taken(size=size)
        wire.say(DATA)
        assert wire.say(BODY) == QUEUED
        assert wire.say(b"quit\r\n") == b"221 2.0.0 Bye\r\n"
        assert wire.closed
    wire = taken()
    wire.say(DATA)
    wire.say(BODY)
    wire._scene.wait(1.9)
    assert not wire.closed
    wire._scene.wait(0.2)
    assert wire.received.endswith(QUEUED + LAST)
    assert wire.closed
    for wire in (taken(), taken()):
        wire.say(DATA)
        wire.say(BODY)
        wire.half_close()
        assert record_of(wire).verdict is Verdict.EXEMPTED


BARE = [
    b"\n",
    b"a\n",
    b"a\r",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n.\r\n",
    b"\n.\n",
    b"\r\r\n.\r\n",
    b"\r\n\n.\r\n",
]


@pytest.mark.parametrize("size", [0, 1, 2, 3])
@pytest.mark.parametrize("bare", BARE)
def test_a_bare_newline_in_the_data_ends_it_without_the_dot(bare: bytes, size: int) -> None:
    wire = taken(size=size)
    wire.say(DATA)
    assert wire.say(b"text" + bare + b"x\r\n.\r\n") == b"550 5.5.2 Error: bare <CR> or <LF> in the data\r\n"
    assert wire.closed
    assert b"\r\n.\r" not in wire.data
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire.data)
    record = record_of(wire)
    assert record.verdict is Verdict.REJECTED
    assert EventKind.BARE_NEWLINE in [event.kind for event in record.events]


def test_soft_fail_and_footer_hold_for_our_own_words_and_not_for_the_mtas() -> None:
    policy = rules(Session(soft_fail=True, reject_footer="see https://example.org/"))
    wire = taken(policy=policy)
    wire.say(DATA)
    assert wire.say(b"a\nb").startswith(b"450-4.5.2 Error: bare <CR> or <LF> in the data\r\n450 4.5.2 see ")
    wire = taken(but(dot=NO), policy)
    wire.say(DATA)
    assert wire.say(BODY) == NO
    assert wire.say(NOOP).startswith(b"421-4.3.2 ")


def test_a_client_that_goes_within_the_data_leaves_no_mail() -> None:
    wire = taken()
    wire.say(DATA)
    wire.say(b"Subject: half\r\n")
    wire.lose()
    assert b"\r\n.\r\n" not in wire.data
    record = record_of(wire)
    assert record.verdict is Verdict.REJECTED
    assert "hung up" in record.reason


def reference(data: bytes) -> tuple[bytes, bool, bool]:
    """Byte for byte: what may be passed on of data that comes at once, and how it ends."""
    out, line = b"", b""
    for at, byte in enumerate(data):
        if byte == 13 and data[at + 1 : at + 2] not in (b"\n", b""):
            return out, False, True
        if byte == 10 and data[at - 1 : at] != b"\r":
            return out, False, True
        out += bytes((byte,))
        line += bytes((byte,))
        if byte == 10:
            if line == b".\r\n":
                return out, True, False
            line = b""
    return out.removesuffix(b"\r") if data.endswith(b"\r") else out, False, False


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"..", b".\r\n", b"\0"]), max_size=14),
    st.data(),
)
def test_the_end_of_the_data_is_found_under_every_split(parts: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(parts)
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(data)))))
    sieve, passed = DataFilter(), b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        passed += sieve.feed(data[start:end])
    expected, ended, bare = reference(data)
    assert (sieve.ended, sieve.bare) == (ended, bare)
    if bare:
        assert expected.startswith(passed)
    else:
        assert passed == expected


def phase(rest: bytes = b"") -> ExemptData:
    return ExemptData(b"354 go on\r\n", rest, 0.0, ReplayLimits(block=300.0, end_of_data=3600.0))


def test_a_client_that_falls_silent_within_the_data_is_told_so() -> None:
    data = phase(b"a\r\n")
    data.receive_from_client(b"b\r\n", 100.0)
    assert data.next_deadline() == 400.0
    data.handle_timer(399.9)
    assert data.result is None
    data.handle_timer(400.0)
    assert data.result is not None
    assert (data.result.outcome, data.result.reply[:9]) == (HandoverOutcome.CLOSE, b"421 4.4.2")


def test_the_wait_for_the_word_on_the_mail_is_as_long_as_a_relays() -> None:
    data = phase(b"a\r\n.\r\n")
    assert data.next_deadline() == 3600.0


def test_a_client_is_not_read_while_much_waits_for_the_mta() -> None:
    data = phase()
    data.receive_from_client(b"x" * 64 * 1024, 1.0)
    assert not data.wants_client
    del data.to_mta[:1]
    assert data.wants_client


def test_the_mta_may_refuse_the_mail_before_its_end_but_not_take_it() -> None:
    for reply, outcome in (
        (b"552 5.3.4 too big\r\n", HandoverOutcome.EXEMPTED),
        (QUEUED, HandoverOutcome.CLOSE),
    ):
        data = phase(b"a\r\n")
        data.receive_from_mta(reply, 1.0)
        assert data.result is not None
        assert data.result.outcome is outcome
    data = phase(b"a\r\n.\r\n")
    assert data.to_mta  # the dot is not sent yet: 250 can't be a word on it
    data.receive_from_mta(QUEUED, 1.0)
    assert data.result is not None
    assert data.result.outcome is HandoverOutcome.CLOSE
