"""Log lines in postscreen's words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from msgspec import structs
from postwarden_sidecar.engine.record import Event, EventKind, Record
from postwarden_sidecar.telemetry.postscreen import delay, lines
from record_strategies import records
from telemetry.samples import record

LINE = re.compile(
    r"(?P<month>\w{3}) (?P<day>[ \d]\d) (?P<time>\d\d:\d\d:\d\d) (?P<host>\S+) postfix/postscreen\[(?P<pid>\d+)\]: (?P<event>.*)"
)
PEER = r"\[(?P<address>[^\]]*)\]:(?P<port>\d+)"
# A reader of its own, written from Postfix's documentation and recorded logs, not from the code under test.
EVENTS = {
    EventKind.CONNECT: rf"CONNECT from {PEER} to \[(?P<server>[^\]]*)\]:(?P<server_port>\d+)",
    EventKind.ALLOWLISTED: rf"(ALLOWLISTED|WHITELISTED) {PEER}",
    EventKind.DENYLISTED: rf"(DENYLISTED|BLACKLISTED) {PEER}",
    EventKind.VETO: rf"(ALLOWLIST|WHITELIST) VETO {PEER}",
    EventKind.DNSBL: rf"DNSBL rank (?P<count>-?\d+) for {PEER}",
    EventKind.COMMAND_PIPELINING: rf"COMMAND PIPELINING from {PEER} after (?P<command>.*): (?P<text>.*)",
    EventKind.NON_SMTP_COMMAND: rf"NON-SMTP COMMAND from {PEER} after (?P<command>.*): (?P<text>.*)",
    EventKind.BARE_NEWLINE: rf"BARE NEWLINE from {PEER} after (?P<text>.*)",
    EventKind.TOO_MANY_CONNECTIONS: rf"NOQUEUE: reject: CONNECT from {PEER}: too many connections",
    EventKind.SERVER_PORTS_BUSY: rf"NOQUEUE: reject: CONNECT from {PEER}: all server ports busy",
    EventKind.SCREENING_PORTS_BUSY: rf"reject: connect from {PEER}: all screening ports busy",
    EventKind.PASS_OLD: rf"PASS OLD {PEER}",
    EventKind.PASS_NEW: rf"PASS NEW {PEER}",
    EventKind.DISCONNECT: rf"DISCONNECT {PEER}",
    EventKind.PREGREET: rf"PREGREET (?P<count>\d+) after [\d.]+ from {PEER}: (?P<text>.*)",
    EventKind.HANGUP: rf"HANGUP after [\d.]+ from {PEER} in tests (?P<text>.*) SMTP handshake",
    EventKind.REJECT: (
        rf"NOQUEUE: reject: RCPT from {PEER}: (?P<text>.*); from=<(?P<sender>.*)>, to=<(?P<recipient>.*)>, "
        r"proto=(?P<proto>.*), helo=<(?P<helo>.*)>"
    ),
    EventKind.COMMAND_TIME_LIMIT: rf"COMMAND TIME LIMIT from {PEER} after (?P<text>.*)",
    EventKind.COMMAND_COUNT_LIMIT: rf"COMMAND COUNT LIMIT from {PEER} after (?P<text>.*)",
    EventKind.COMMAND_LENGTH_LIMIT: rf"COMMAND LENGTH LIMIT from {PEER} after (?P<text>.*)",
    EventKind.DATA_WITHOUT_RCPT: rf"(?P<text>.*) without valid RCPT from {PEER}",
    EventKind.HANDOFF_FAILED: rf"warning: hand-off of {PEER} to the upstream failed: (?P<text>.*)",
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def shown(*events: Event, legacy: bool = False) -> list[str]:
    found = lines(record(events=list(events)), "mx.example", 77, legacy=legacy)
    return [line.removeprefix("Jan  2 03:04:05 mx.example postfix/postscreen[77]: ") for line in found]


def test_a_denied_client_has_a_line_for_each_event_with_its_time() -> None:
    assert list(lines(record(), "mx.example", 77)) == [
        "Jan  2 03:04:05 mx.example postfix/postscreen[77]: CONNECT from [192.168.7.9]:40001 to [192.0.2.25]:25",
        "Jan  2 03:04:05 mx.example postfix/postscreen[77]: DENYLISTED [192.168.7.9]:40001",
        "Jan  2 03:04:07 mx.example postfix/postscreen[77]: NOQUEUE: reject: RCPT from [192.168.7.9]:40001: "
        "550 5.3.2 Service currently unavailable; from=<a@example.com>, to=<b@example.org>, proto=ESMTP, helo=<c.example>",
        "Jan  2 03:04:07 mx.example postfix/postscreen[77]: DISCONNECT [192.168.7.9]:40001",
    ]


def test_legacy_has_the_words_of_before_postfix_3_6() -> None:
    events = (
        Event(EventKind.ALLOWLISTED, 0.0),
        Event(EventKind.DENYLISTED, 0.0),
        Event(EventKind.PASS_OLD, 0.0),
    )
    assert shown(*events, legacy=True) == [
        "WHITELISTED [192.168.7.9]:40001",
        "BLACKLISTED [192.168.7.9]:40001",
        "PASS OLD [192.168.7.9]:40001",
    ]


def test_what_was_said_before_the_greeting_is_escaped_and_cut_as_postscreen_does() -> None:
    (line,) = shown(Event(EventKind.PREGREET, 0.123, "EHLO x\r\n" + "\x00" * 180, 999))
    assert line.startswith(r"PREGREET 999 after 0.12 from [192.168.7.9]:40001: EHLO x\r\n\000\000")
    assert len(line.split(": ", 1)[1]) == 100


def test_without_helo_a_reject_says_smtp_and_an_empty_helo() -> None:
    (line,) = shown(
        Event(EventKind.REJECT, 0.0, "550 5.5.1 Protocol error", sender="", recipient="b@example.org")
    )
    assert line.endswith("550 5.5.1 Protocol error; from=<>, to=<b@example.org>, proto=SMTP, helo=<>")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.04, "0.04"),
        (2.123, "2.1"),
        (12.6, "13"),
        (100.0, "100"),
        (0.00001, "0.00001"),
        (-1, "0"),
    ],
)
def test_delays_have_two_significant_digits(seconds: float, text: str) -> None:
    assert delay(seconds) == text


def test_the_time_is_that_of_the_event_with_the_day_padded_by_a_blank() -> None:
    late = record(events=[Event(EventKind.DISCONNECT, 86_400.0 * 10)])
    assert next(lines(late, "mx", 1)).startswith("Jan 12 03:04:05 mx ")


@given(records())
def test_each_event_is_one_printable_line_that_reads_back_as_the_same_event(made: Record) -> None:
    # A `]` in an address or the words of another line can't be told apart by any reader; addresses are ours, not the client's text.
    made = structs.replace(made, client_address="2001:db8::7", server_address="192.0.2.25")
    found = list(lines(made, "mx", 1))
    assert len(found) == len(made.events)
    for line, event in zip(found, made.events, strict=True):
        assert line.isprintable()
        head = LINE.fullmatch(line)
        assert head is not None
        body = re.fullmatch(EVENTS[event.kind], head["event"])
        assert body is not None
        assert (body["address"], int(body["port"])) == ("2001:db8::7", made.client_port)
        if event.kind is EventKind.PREGREET:
            assert int(body["count"]) == event.count
        if event.kind is EventKind.CONNECT:
            assert (body["server"], int(body["server_port"])) == ("192.0.2.25", made.server_port)


def test_tests_within_the_dialogue_and_limits_have_postscreens_words() -> None:
    peer = "[192.168.7.9]:40001"
    assert shown(
        Event(EventKind.VETO, 0.0),
        Event(EventKind.DNSBL, 0.0, "bl.example", 4),
        Event(EventKind.COMMAND_PIPELINING, 0.0, "QUIT\r\n", command="RCPT"),
        Event(EventKind.NON_SMTP_COMMAND, 0.0, "\tNOOP \xff", command="CONNECT"),
        Event(EventKind.BARE_NEWLINE, 0.0, "EHLO x\x01"),
        Event(EventKind.TOO_MANY_CONNECTIONS, 0.0),
        Event(EventKind.SERVER_PORTS_BUSY, 0.0),
        Event(EventKind.SCREENING_PORTS_BUSY, 0.0),
    ) == [
        f"ALLOWLIST VETO {peer}",
        f"DNSBL rank 4 for {peer}",
        f"COMMAND PIPELINING from {peer} after RCPT: QUIT\\r\\n",
        f"NON-SMTP COMMAND from {peer} after CONNECT: ?NOOP \\377",
        f"BARE NEWLINE from {peer} after EHLO x\\001",
        f"NOQUEUE: reject: CONNECT from {peer}: too many connections",
        f"NOQUEUE: reject: CONNECT from {peer}: all server ports busy",
        f"reject: connect from {peer}: all screening ports busy",
    ]
    assert shown(Event(EventKind.VETO, 0.0), legacy=True) == [f"WHITELIST VETO {peer}"]


@given(records())
def test_no_text_makes_a_second_line(made: Record) -> None:
    for line in lines(made, "mx", 1):
        assert line.splitlines() == [line]
