"""Our own SMTP dialogue: replies, state, limits; however the input is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.dialog import Dialog, Ending
from postwarden_sidecar.rules.settings import Session

COMMAND_COUNT_LIMIT = Session().command_count_limit
LINE_LENGTH_LIMIT = Session().line_length_limit
REFUSAL = b"550 5.3.2 Service currently unavailable\r\n"
LIMIT = b"421 mx.example.org Service unavailable - try again later\r\n"
EHLO = b"250-mx.example.org\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
OFFERED = ("PIPELINING", "SIZE 1000", "AUTH PLAIN", "XCLIENT NAME", "XFORWARD NAME", "8BITMIME")


def dialog(offered: tuple[str, ...] | None = OFFERED) -> Dialog:
    return Dialog("mx.example.org", offered, REFUSAL)


def after(*lines: bytes) -> Dialog:
    session = dialog()
    for line in lines:
        session.receive(line + b"\r\n")
    return session


MAIL = b"MAIL FROM:<a@example.com>"


@pytest.mark.parametrize(
    ("before", "line", "reply"),
    [
        ([], b"HELO c.example", b"250 mx.example.org\r\n"),
        ([], b"helo c.example", b"250 mx.example.org\r\n"),
        ([], b"HELO", b"501 Syntax: HELO hostname\r\n"),
        ([], b"EHLO c.example", EHLO),
        ([], b"EHLO ", b"501 Syntax: EHLO hostname\r\n"),
        ([], MAIL, b"250 2.1.0 Ok\r\n"),
        ([], b"MAIL", b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n"),
        ([MAIL], MAIL, b"503 5.5.1 Error: nested MAIL command\r\n"),
        ([MAIL, b"RSET"], MAIL, b"250 2.1.0 Ok\r\n"),
        ([MAIL, b"HELO x"], MAIL, b"250 2.1.0 Ok\r\n"),
        ([MAIL, b"EHLO x"], MAIL, b"250 2.1.0 Ok\r\n"),
        ([MAIL, b"EHLO"], MAIL, b"503 5.5.1 Error: nested MAIL command\r\n"),
        ([], b"RCPT TO:<b@example.org>", b"503 5.5.1 Error: need MAIL command\r\n"),
        ([MAIL], b"RCPT TO:<b@example.org>", REFUSAL),
        ([MAIL], b"RCPT TO", b"501 5.5.4 Syntax: RCPT TO:<address>\r\n"),
        ([MAIL, b"RSET"], b"RCPT TO:<b@example.org>", b"503 5.5.1 Error: need MAIL command\r\n"),
        ([], b"VRFY someone", REFUSAL),
        ([], b"VRFY", b"501 5.5.4 Syntax: VRFY address\r\n"),
        ([], b"ETRN example.org", b"458 Unable to queue messages\r\n"),
        ([], b"ETRN", b"500 Syntax: ETRN domain\r\n"),
        ([], b"NOOP anything", b"250 2.0.0 Ok\r\n"),
        ([], b"  NOOP", b"250 2.0.0 Ok\r\n"),
        ([], b"STARTTLS", b"502 5.5.1 Error: command not implemented\r\n"),
        ([], b"STARTTLS x", b"501 Syntax: STARTTLS\r\n"),
        ([], b"", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"AUTH PLAIN AGEAYg==", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"XCLIENT ADDR=1.2.3.4", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"NOOP\tx", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"NOOP\0x", b"250 2.0.0 Ok\r\n"),
        ([], b"\0NOOP", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"NOOP\r ", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"NOOP\rNOOP", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"\xff\xfe", b"502 5.5.2 Error: command not recognized\r\n"),
        ([], b"DATA", b"503 5.5.1 Error: need RCPT command\r\n"),
        ([MAIL], b"DATA", b"554 5.5.1 Error: no valid recipients\r\n"),
        ([MAIL], b"DATA now", b"501 5.5.4 Syntax: DATA\r\n"),
        ([], b"BDAT 5 LAST", b"554 5.5.1 Error: need MAIL command\r\n"),
        ([MAIL], b"BDAT 5 last", b"554 5.5.1 Error: no valid recipients\r\n"),
        ([MAIL], b"BDAT", b"501 5.5.4 Syntax: BDAT count [LAST]\r\n"),
        ([MAIL], b"BDAT x", b"554 5.5.1 Error: no valid recipients\r\n"),
        ([], b"BDAT 5 FIRST", b"554 5.5.1 Error: need MAIL command\r\n"),
        ([], b"QUIT", b"221 2.0.0 Bye\r\n"),
        ([], b"quit now", b"221 2.0.0 Bye\r\n"),
    ],
)
def test_replies(before: list[bytes], line: bytes, reply: bytes) -> None:
    for end in (b"\r\n", b"\n"):
        session = after(*before)
        assert session.receive(line + end) == reply
        verb = line.split(b" ")[0].upper()
        ends = {b"QUIT": Ending.QUIT, b"DATA": Ending.DATA, b"BDAT": Ending.DATA}
        assert session.ending is ends.get(verb)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (b"<a@example.com>", "a@example.com"),
        (b" <a@example.com> SIZE=10", "a@example.com"),
        (b"<>", ""),
        (b"", ""),
        (b"a@example.com BODY=8BITMIME", "a@example.com"),
        (b'<"a > b"@example.com>', '"a > b"@example.com'),
        (b'<"ab"@example.com>', "ab@example.com"),
        (b"<a\\@b@example.com>", '"a@b"@example.com'),
        (b"<a..b@example.com>", '"a..b"@example.com'),
        (b"<@example.com>", '""@example.com'),
        (b'"a b"@example.com SIZE=1', '"a b"@example.com'),
        (b"<@one.example:@two.example:c@example.org>", "@two.example:c@example.org"),
        (b"<a\\", "a"),
        (b'<"a\\" > b"@example.com>', '"a\\" > b"@example.com'),
        (b"<@one.example,@two.example:c@example.org>", "c@example.org"),
        (b"<unclosed@example.com", "unclosed@example.com"),
        (b"<\xe9@example.com>", "é@example.com"),
        (b"<" + b"x" * 1000 + b">", "x" * 200),
    ],
)
def test_sender_and_recipient_are_known_to_the_log(path: bytes, address: str) -> None:
    session = after(b"EHLO c.example", b"MAIL FROM:" + path, b"RCPT TO:" + path)
    assert (session.sender, session.recipient) == (address, address)
    (refused,) = session.refused
    assert refused == (REFUSAL, address, address, "c.example", "ESMTP")


def test_the_protocol_stays_esmtp_after_helo() -> None:
    assert after(b"HELO a").proto == "SMTP"
    assert after(b"HELO a", b"EHLO b").proto == "ESMTP"
    session = after(b"EHLO b", b"HELO c")
    assert (session.proto, session.helo) == ("ESMTP", "c")


def test_a_refusal_that_changes_counts_from_then_on() -> None:
    session = after(MAIL, b"RCPT TO:<b@example.org>")
    session.refusal = b"550 5.5.1 Protocol error\r\n"
    assert session.receive(b"RCPT TO:<c@example.org>\r\n") == b"550 5.5.1 Protocol error\r\n"
    assert [refused.reply for refused in session.refused] == [REFUSAL, session.refusal]


def test_ehlo_before_anything_was_learned_is_our_fault() -> None:
    session = Dialog("mx.example.org", None, b"")
    assert session.receive(b"HELO x\r\n") == b"250 mx.example.org\r\n"
    assert session.receive(b"EHLO x\r\nQUIT\r\n") == b"421 4.3.2 No system resources\r\n"
    assert session.ending is Ending.NOT_LEARNED


def test_who_is_refused_in_any_case_needs_nothing_learned() -> None:
    session = dialog(None)
    assert (
        session.receive(b"EHLO x\r\n") == b"250-mx.example.org\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
    )
    assert session.receive(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n").endswith(REFUSAL)


def test_bdat_is_hidden_by_ehlo_only() -> None:
    session = Dialog("mx.example.org", OFFERED, REFUSAL, Session(hidden_extensions=("CHUNKING",)))
    session.receive(b"HELO x\r\n")
    assert session.receive(b"BDAT 5\r\n") == b"554 5.5.1 Error: need MAIL command\r\n"
    session = Dialog("mx.example.org", OFFERED, REFUSAL, Session(hidden_extensions=("CHUNKING",)))
    session.receive(b"EHLO x\r\n")
    assert session.receive(b"BDAT 5\r\n") == b"502 5.5.1 Error: command not implemented\r\n"


def test_ehlo_with_nothing_to_offer_is_one_line() -> None:
    assert dialog(()).receive(b"EHLO x\r\n") == b"250 mx.example.org\r\n"


def test_commands_are_counted_and_quit_may_be_one_too_many() -> None:
    session = dialog()
    assert session.receive(b"NOOP\r\n" * COMMAND_COUNT_LIMIT) == b"250 2.0.0 Ok\r\n" * COMMAND_COUNT_LIMIT
    assert session.receive(b"FROB\r\n") == LIMIT
    assert (session.ending, session.last) == (Ending.COUNT, "NOOP")
    session = dialog()
    assert session.receive(b"FROB\r\n" * COMMAND_COUNT_LIMIT + b"QUIT\r\n").endswith(b"221 2.0.0 Bye\r\n")
    assert session.ending is Ending.QUIT


@pytest.mark.parametrize(("size", "taken"), [(LINE_LENGTH_LIMIT - 1, True), (LINE_LENGTH_LIMIT, False)])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_have_a_longest_length(size: int, taken: bool, end: bytes) -> None:
    line = b"NOOP " + b"x" * (size - 5)
    session = dialog()
    assert session.receive(line + end) == (b"250 2.0.0 Ok\r\n" if taken else LIMIT)
    assert session.ending is (None if taken else Ending.LENGTH)


@pytest.mark.parametrize("piece", [1, 100, 8192, 1_000_000])
def test_a_megabyte_without_a_line_end_ends_the_session(piece: int) -> None:
    session = dialog()
    sent = 0
    answer = b""
    while not answer and sent < 1_000_000:
        answer = session.receive(b"x" * piece)
        sent += piece
    assert answer == LIMIT
    assert sent < LINE_LENGTH_LIMIT + 2 + piece
    assert session.ending is Ending.LENGTH


def test_what_follows_the_end_is_not_answered() -> None:
    session = dialog()
    assert session.receive(b"QUIT\r\nNOOP\r\n") == b"221 2.0.0 Bye\r\n"
    assert session.receive(b"NOOP\r\n") == b""


SESSIONS = [
    b"EHLO z.example\r\nMAIL FROM:<s@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
    b"HELO x\nNOOP\r\r\n\r\nRSET\nVRFY a\nQUIT\r\n",
    MAIL + b"\r\nBDAT 5 LAST\r\nhello",
    b"NOOP\n" * 22,
]


def outcome(data: bytes, cuts: list[int]) -> tuple[bytes, object, int, list[object]]:
    session = dialog()
    answers = b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        answers += session.receive(data[start:end])
    return answers, session.ending, session.commands, list(session.refused)


@pytest.mark.parametrize("data", SESSIONS)
def test_the_cuts_make_no_difference(data: bytes) -> None:
    whole = outcome(data, [])
    assert outcome(data, list(range(1, len(data)))) == whole
    for cut in range(len(data)):
        assert outcome(data, [cut]) == whole


_LINES = st.sampled_from(
    [
        b"EHLO x",
        b"HELO y",
        b"NOOP",
        b"RSET",
        MAIL,
        b"RCPT TO:<b@c>",
        b"FROB",
        b"",
        b"VRFY a",
        b"\xff",
        b"x" * 2047,
        b"x" * 2049,
    ]
)
_STREAMS = st.lists(st.tuples(_LINES, st.sampled_from([b"\r\n", b"\n", b"\r", b""])), max_size=25).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


@given(_STREAMS | st.binary(max_size=300), st.lists(st.integers(0, 5000), max_size=6))
def test_no_stream_and_no_cut_makes_a_difference(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, sorted(cut for cut in cuts if cut < len(data))) == outcome(data, [])
