"""Mail to exempt recipients from a client that is refused, up to its data: what the MTA hears of it and what the client is told, at every
step and for every reply of the MTA, under every split."""

from __future__ import annotations

import re

import pytest
from engine.scene import Scene, make_rules
from handoff.exempt_mta import (
    ABUSE,
    BODY,
    BYE,
    DATA,
    EHLO,
    EVERYBODY,
    EXEMPT,
    HANG_UP,
    LAST,
    LATER,
    LOST,
    MAIL,
    NO,
    NOOP,
    NOT_READY,
    ODD,
    OK,
    OTHER,
    QUEUED,
    REFUSED,
    SILENCE,
    UNAVAILABLE,
    ExemptWire,
    begun,
    but,
    postfix,
    record_of,
    rules,
    taken,
)
from postwarden_sidecar.engine.actions import StorePass
from postwarden_sidecar.engine.record import EventKind, Verdict
from postwarden_sidecar.rules.settings import Action, Mode, Protocol, ProtocolTest


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_an_exempt_recipient_gets_the_mail_and_nobody_else_does(size: int) -> None:
    wire = begun(size=size)
    assert wire.say(OTHER) == REFUSED
    assert wire.say(EXEMPT) == OK
    assert wire.say(OTHER) == REFUSED
    assert wire.say(ABUSE) == OK
    assert wire.say(DATA) == b"354 go on\r\n"
    assert wire.say(BODY) == QUEUED
    assert wire.say(NOOP) == LAST
    assert wire.closed
    assert wire.heard == [EHLO, MAIL, EXEMPT, ABUSE, DATA]
    assert wire.data == BODY
    record = record_of(wire)
    assert record.verdict is Verdict.EXEMPTED
    assert (record.test, record.action) == ("access", "Enforce")
    assert "250 2.0.0 queued" in record.reason
    rejects = [event.recipient for event in record.events if event.kind is EventKind.REJECT]
    assert rejects == ["b@example.org", "b@example.org"]
    assert not any(isinstance(action, StorePass) for action in wire.actions)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_who_pipelines_gets_its_exempt_mail_through_too(size: int) -> None:
    """Pipelining is refused, as the client is already; bytes behind DATA are data."""
    wire = ExemptWire(Scene(), rules(), postfix, size=size)
    wire.say(EHLO + MAIL + OTHER + EXEMPT + DATA + BODY)
    wire.say(MAIL)
    replies = wire.received.splitlines()[-7:]
    assert [reply[:3] for reply in replies] == [b"250", b"250", b"550", b"250", b"354", b"250", b"421"]
    assert wire.heard == [EHLO, MAIL, EXEMPT, DATA]
    assert wire.data == BODY
    assert record_of(wire).verdict is Verdict.EXEMPTED


def test_one_exempt_mail_a_connection() -> None:
    wire = taken()
    wire.say(DATA)
    assert wire.say(BODY + EHLO + MAIL + EXEMPT + DATA) == QUEUED
    assert wire.say(EHLO + MAIL + EXEMPT + DATA) == LAST
    assert wire.closed
    assert wire.data == BODY
    assert wire.heard.count(DATA) == 1


# --- who is exempt

NEVER = [
    b'RCPT TO:<"postmaster"@example.org>\r\n',
    b"RCPT TO:<@relay.example:postmaster@example.org>\r\n",
    b"RCPT TO:<postmaster@example.org> <b@example.org>\r\n",
    b"RCPT TO:<postmaster@example.org>,<b@example.org>\r\n",
    b"RCPT TO:<postmaster@example.org\r\n",
    b"RCPT TO:postmaster@example.org\r\n",
    b"RCPT TO:<postmaster@example.org>\rRCPT TO:<b@example.org>\r\n",
    b"RCPT TO:<postmaster@example.org>\0\r\n",
    b"RCPT TO:<postmaster@[192.0.2.1]>\r\n",
    b"RCPT TO:<postmaster@example.org.>\r\n",
    b"RCPT TO:<xpostmaster@example.org>\r\n",
    b"RCPT TO:<postmaster+b@example.org>\r\n",
    b"RCPT TO:<abuse@sub.example.com>\r\n",
    b"RCPT TO:<abuse@example.com.example.org>\r\n",
    b"RCPT TO:<abuse>\r\n",
    b"RCPT TO:<b@sub.example.net>\r\n",
    b"RCPT TO:<b%example.org@example.net>\r\n",
    b"RCPT TO:<example.org!b@example.net>\r\n",
    b"RCPT TO:<>\r\n",
    b"RCPT FOO:<postmaster@example.org>\r\n",
]


@pytest.mark.parametrize("line", NEVER)
def test_what_is_no_exempt_recipient_never_reaches_the_mta(line: bytes) -> None:
    wire = begun()
    assert wire.say(line) == REFUSED
    assert wire.heard == []
    wire.say(DATA)
    assert wire.received.endswith(b"554 5.5.1 Error: no valid recipients\r\n")
    assert record_of(wire).verdict is Verdict.REJECTED


@pytest.mark.parametrize(
    "line",
    [
        b"RCPT TO:<postmaster>\r\n",
        b"rcpt to: <POSTMASTER@Example.ORG>\r\n",
        b"  RCPT TO:<postmaster@any.example> NOTIFY=NEVER ORCPT=rfc822;x@y\r\n",
        b"RCPT TO:<Abuse@EXAMPLE.com>\r\n",
        b"RCPT TO:<whoever.it+is@example.net>\r\n",
    ],
)
def test_a_match_is_the_whole_address_in_any_case(line: bytes) -> None:
    wire = begun()
    assert wire.say(line) == OK
    assert wire.heard[-1] == line


@pytest.mark.parametrize(
    ("hello", "mail"),
    [
        (b"EHLO a\rRCPT TO:<b@example.org>\r\n", MAIL),
        (EHLO, b"MAIL FROM:<a@b>\rRCPT TO:<b@example.org>\r\n"),
        (EHLO, b"MAIL FROM:<a@b>\0\r\n"),
    ],
)
def test_a_command_that_some_mta_may_read_as_two_is_never_passed_on(hello: bytes, mail: bytes) -> None:
    wire = ExemptWire(Scene(), rules(), postfix)
    wire.say(hello)
    wire.say(mail)
    assert wire.say(EXEMPT) == REFUSED
    assert wire.heard == []


def test_commands_that_end_in_a_bare_newline_are_passed_on_with_a_whole_one() -> None:
    wire = ExemptWire(Scene(), rules(), postfix)
    for line in (EHLO, MAIL, EXEMPT, DATA):
        wire.say(line.replace(b"\r", b""))
    assert wire.heard == [EHLO, MAIL, EXEMPT, DATA]


def test_without_hello_none_is_said_to_the_mta() -> None:
    wire = ExemptWire(Scene(), rules(), postfix)
    wire.say(MAIL)
    assert wire.say(EXEMPT) == OK
    assert wire.heard == [MAIL, EXEMPT]


def test_neither_starttls_nor_chunking_nor_pipelining_is_offered() -> None:
    wire = ExemptWire(Scene(), rules(), postfix)
    offered = wire.say(EHLO)
    assert not re.search(rb"STARTTLS|CHUNKING|PIPELINING", offered)
    assert b"SIZE" in offered
    wire.say(MAIL)
    wire.say(EXEMPT)
    assert wire.say(b"STARTTLS\r\n") == b"502 5.5.1 Error: command not implemented\r\n"
    assert wire.say(b"BDAT 4 LAST\r\nabcd") == b"502 5.5.1 Error: command not implemented\r\n"
    assert wire.closed
    assert wire.heard == [EHLO, MAIL, EXEMPT]


def test_who_was_offered_chunking_before_it_failed_is_told_to_come_again() -> None:
    policy = make_rules(
        banner="", protocol=Protocol(bare_newline=ProtocolTest(True, Action.ENFORCE)), exempt=EVERYBODY
    )
    wire = ExemptWire(Scene(), policy, postfix)
    assert b"CHUNKING" in wire.say(EHLO)
    wire.say(b"NOOP\n")
    wire.say(MAIL)
    assert wire.say(OTHER) == b"550 5.5.1 Protocol error\r\n"
    assert wire.say(EXEMPT) == OK
    assert wire.say(b"BDAT 4 LAST\r\nabcd") == b"421 4.3.2 No system resources\r\n"
    assert wire.closed


def test_a_test_that_fails_under_drop_later_ends_it_without_data() -> None:
    wire = taken()
    wire.say(b"GET / HTTP/1.0\r\n")
    assert wire.closed
    assert record_of(wire).verdict is Verdict.DROPPED
    assert wire.heard == [EHLO, MAIL, EXEMPT]


def test_drop_lets_nothing_through_and_ignore_and_observe_hand_over_as_ever() -> None:
    assert ExemptWire(Scene(), rules(action=Action.DROP), postfix).received.startswith(b"521")
    for policy in (rules(action=Action.IGNORE), rules(mode=Mode.OBSERVE)):
        wire = ExemptWire(Scene(), policy, postfix)
        assert wire.handed_over


def test_who_is_only_to_come_back_comes_back() -> None:
    policy = make_rules(
        banner="", protocol=Protocol(bare_newline=ProtocolTest(True, Action.ENFORCE)), exempt=EVERYBODY, pass_addresses=("203.0.113.1",)
    )  # fmt: skip
    wire = begun(policy=policy)
    assert wire.say(EXEMPT) == b"450 4.3.2 Service currently unavailable\r\n"
    assert wire.heard == []


# --- transactions

SECOND = b"MAIL FROM:<c@example.com>\r\n"


@pytest.mark.parametrize("size", [0, 1, 4])
def test_a_second_transaction_begins_with_rset_at_the_mta(size: int) -> None:
    wire = taken(size=size)
    assert wire.say(b"RSET\r\n") == b"250 2.0.0 Ok\r\n"
    assert wire.say(SECOND) == OK
    assert wire.say(OTHER) == REFUSED
    assert wire.say(ABUSE) == OK
    wire.say(DATA)
    assert wire.say(BODY) == QUEUED
    assert wire.say(NOOP) == LAST
    assert wire.heard == [EHLO, MAIL, EXEMPT, b"RSET\r\n", SECOND, ABUSE, DATA]
    assert wire.connections == 1


def test_recipients_of_a_transaction_that_was_reset_get_nothing() -> None:
    wire = taken()
    wire.say(b"RSET\r\n")
    wire.say(SECOND)
    assert wire.say(OTHER) == REFUSED
    assert wire.say(DATA) == b"554 5.5.1 Error: no valid recipients\r\n"
    assert wire.heard == [EHLO, MAIL, EXEMPT]


def test_a_new_hello_is_said_to_the_mta_and_forgets_the_recipients() -> None:
    wire = taken()
    wire.say(b"EHLO other.example\r\n")
    assert wire.say(DATA) == b"503 5.5.1 Error: need RCPT command\r\n"
    wire = taken()
    wire.say(b"EHLO other.example\r\n")
    wire.say(MAIL)
    assert wire.say(EXEMPT) == OK
    assert wire.heard[3:] == [b"EHLO other.example\r\n", MAIL, EXEMPT]
    assert wire.connections == 2


@pytest.mark.parametrize("reply", [b"502 5.5.1 what\r\n", b"421 4.3.2 bye\r\n", HANG_UP, SILENCE, b"x\r\n"])
def test_an_mta_that_does_not_take_rset_is_asked_anew(reply: bytes | None) -> None:
    wire = taken(but(RSET=reply))
    wire.say(b"RSET\r\n")
    wire.say(SECOND)
    assert wire.say(ABUSE) == b"450 4.3.2 Service currently unavailable\r\n"
    assert wire.say(ABUSE) == OK
    assert wire.heard[-3:] == [EHLO, SECOND, ABUSE]
    assert wire.connections == 2


# --- the MTA's word, and an MTA that fails


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize("reply", [LATER, NO, b"501-5.5.4 a\r\n501 5.5.4 b\r\n"])
def test_what_the_mta_says_is_the_answer_and_the_session_goes_on(step: str, reply: bytes, size: int) -> None:
    wire = begun(but(**{step: reply}), size=size)
    assert wire.say(EXEMPT) == reply
    assert wire.say(OTHER) == REFUSED
    assert wire.say(ABUSE) == reply
    assert wire.say(DATA) == b"554 5.5.1 Error: no valid recipients\r\n"
    record = record_of(wire)
    assert record.verdict is Verdict.REJECTED
    assert DATA not in wire.heard


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT"])
def test_421_stays_421(step: str) -> None:
    wire = begun(but(**{step: BYE}))
    assert wire.say(EXEMPT) == BYE
    assert wire.closed
    assert record_of(wire).verdict is Verdict.DEFERRED


@pytest.mark.parametrize("step", ["EHLO", "MAIL"])
@pytest.mark.parametrize("code", [b"500", b"502", b"503"])
def test_a_command_that_the_mta_does_not_know_is_ours_to_answer_for(step: str, code: bytes) -> None:
    wire = begun(but(**{step: code + b" 5.5.1 what\r\n"}))
    assert wire.say(EXEMPT) == NOT_READY


def test_a_parameter_that_we_offered_and_the_mta_lacks_is_ours_and_leaves_the_transaction() -> None:
    def script(command: bytes) -> bytes | None:
        if b"NOTIFY" in command:
            return b"555 5.5.4 unknown parameter\r\n"
        return postfix(command)

    wire = begun(script)
    wire.dialog = type(wire.dialog)(("SIZE", "DSN"))
    assert wire.say(EXEMPT) == OK
    assert wire.say(b"RCPT TO:<abuse@example.com> NOTIFY=NEVER\r\n") == NOT_READY
    assert wire.say(DATA) == b"354 go on\r\n"


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT"])
def test_an_mta_that_fails_before_it_took_a_recipient_is_asked_again(step: str, odd: bytes | None) -> None:
    failing = [True]
    broken = but(**{step: odd})
    wire = begun(lambda command: broken(command) if failing[0] else postfix(command))
    assert wire.say(EXEMPT) == UNAVAILABLE
    failing[0] = False
    assert wire.say(EXEMPT) == OK
    wire.say(DATA)
    assert wire.say(BODY) == QUEUED
    assert wire.say(NOOP) == LAST


@pytest.mark.parametrize("odd", [*ODD.values(), BYE], ids=[*ODD, "421"])
@pytest.mark.parametrize("line", [ABUSE, DATA])
def test_an_mta_that_is_lost_with_a_recipient_takes_the_client_with_it(
    line: bytes, odd: bytes | None
) -> None:
    """Going on with a new session would lose the first recipient's mail."""
    if line == DATA and odd == b"354 go on\r\n":
        return  # what DATA is to get

    def script(command: bytes) -> bytes | None:
        return odd if command == line else postfix(command)

    wire = taken(script)
    assert wire.say(line) == (BYE if odd == BYE else LOST)
    assert wire.closed
    assert record_of(wire).verdict is Verdict.DEFERRED


@pytest.mark.parametrize("line", [EXEMPT, DATA])
def test_an_mta_that_goes_between_commands_takes_the_client_with_it(line: bytes) -> None:
    wire = taken()
    wire.mta_goes()
    assert wire.say(line) == LOST
    assert wire.closed
    assert wire.heard == [EHLO, MAIL, EXEMPT]


def test_an_mta_that_goes_without_a_recipient_is_asked_anew() -> None:
    wire = begun(but(RCPT=LATER))
    assert wire.say(EXEMPT) == LATER
    wire.mta_goes()
    wire.script = postfix
    assert wire.say(EXEMPT) == OK
    assert wire.heard[3:] == [EHLO, MAIL, EXEMPT]


def test_a_recipient_of_several_that_the_mta_refuses_leaves_the_others() -> None:
    def script(command: bytes) -> bytes | None:
        return NO if command == ABUSE else postfix(command)

    wire = begun(script)
    assert [wire.say(EXEMPT), wire.say(ABUSE), wire.say(OTHER)] == [OK, NO, REFUSED]
    wire.say(DATA)
    assert wire.say(BODY) == QUEUED
    assert wire.say(NOOP) == LAST


@pytest.mark.parametrize("reply", [LATER, NO, b"503 5.5.1 no recipients\r\n"])
def test_data_that_the_mta_refuses_ends_the_session_with_its_word(reply: bytes) -> None:
    wire = taken(but(DATA=reply))
    assert wire.say(DATA) == reply
    assert wire.closed
    assert record_of(wire).verdict is (Verdict.DEFERRED if reply == LATER else Verdict.REJECTED)
