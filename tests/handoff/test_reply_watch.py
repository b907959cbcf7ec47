"""The opening of a relay: no byte of the client before the 220, and wrong answers found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.handoff.reply_watch import MAX_FIRST_LINE, Refused, ReplyWatch, Stage, WrongAnswer
from strategies import every_split

GREETING = b"220-mx\r\n220 mx ESMTP\r\n"
EHLO_REPLY = b"250-mx\r\n250 SIZE\r\n"


def greeted() -> ReplyWatch:
    watch = ReplyWatch()
    assert watch.receive_from_mta(GREETING) == GREETING
    return watch


def feed(watch: ReplyWatch, chunks: list[bytes], passed: list[bytes]) -> None:
    for chunk in chunks:
        passed.append(watch.receive_from_mta(chunk))


def test_no_byte_of_the_client_before_the_220() -> None:
    watch = ReplyWatch()
    assert not watch.wants_client
    with pytest.raises(ValueError):
        watch.receive_from_client(b"EHLO x\r\n")


def test_an_opening_is_passed_on_unchanged_under_every_split() -> None:
    for mta_chunks in every_split(GREETING):
        watch = ReplyWatch()
        assert b"".join(watch.receive_from_mta(chunk) for chunk in mta_chunks) == GREETING
        assert watch.stage is Stage.COMMAND
    for client_chunks in every_split(b"EHLO mail.example.org\r\n"):
        watch = greeted()
        assert (
            b"".join(watch.receive_from_client(chunk) for chunk in client_chunks)
            == b"EHLO mail.example.org\r\n"
        )
        assert watch.stage is Stage.REPLY
        for reply_chunks in every_split(EHLO_REPLY):
            other = greeted()
            other.receive_from_client(b"EHLO mail.example.org\r\n")
            assert b"".join(other.receive_from_mta(chunk) for chunk in reply_chunks) == EHLO_REPLY
            assert other.stage is Stage.OVER


def test_later_commands_wait_for_the_reply_to_the_first() -> None:
    watch = greeted()
    assert watch.receive_from_client(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRC") == b"EHLO x\r\n"
    assert not watch.wants_client
    watch.receive_from_mta(EHLO_REPLY)
    assert watch.take_rest() == (b"MAIL FROM:<a@b>\r\nRC", b"")


@pytest.mark.parametrize(
    "after",
    [b"502 5.5.2 not recognized\r\n", b"500 what\r\n", b"250 shifted\r\n", b"garbage\r\n"],
)
def test_a_second_reply_before_the_first_command_is_a_wrong_answer(after: bytes) -> None:
    for chunks in every_split(GREETING + after):
        passed: list[bytes] = []
        with pytest.raises(WrongAnswer):
            feed(ReplyWatch(), chunks, passed)
        assert b"".join(passed) in (b"", GREETING)


@pytest.mark.parametrize("greeting", [b"554 SMTP synchronization error\r\n", b"500 what\r\n", b"250 ok\r\n"])
def test_a_greeting_that_answers_our_header_is_a_wrong_answer_and_not_the_mtas_word_to_the_client(
    greeting: bytes,
) -> None:
    """The first is Exim's to a PROXY header that it does not expect."""
    for chunks in every_split(greeting):
        passed: list[bytes] = []
        with pytest.raises(WrongAnswer):
            feed(ReplyWatch(), chunks, passed)
        assert b"".join(passed) == b""


@pytest.mark.parametrize(
    "reply", [b"500 5.5.2 Error", b"502 5.5.2 Error", b"503 5.5.2 Error", b"554 SMTP synchronization error"]
)
@pytest.mark.parametrize("hello", [b"HELO x\r\n", b"ehlo mail.example.org\r\n"])
def test_a_hello_that_is_not_understood_is_a_wrong_answer(reply: bytes, hello: bytes) -> None:
    """The last is Exim's where its greeting was faster than our header."""
    watch = greeted()
    watch.receive_from_client(hello)
    with pytest.raises(WrongAnswer, match=reply.decode()):
        watch.receive_from_mta(reply + b"\r\n")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"EHLO x\r\n", b"550 5.7.1 go away\r\n"),
        (b"EHLO x\r\n", b"501 Syntax: EHLO hostname\r\n"),
        (b"MAIL FROM:<a@b>\r\n", b"503 5.5.1 Error: send HELO first\r\n"),
        (b"NOOP\r\n", b"502 no\r\n"),
        (b"EHLO \xff\r\n", b"500 what\r\n"),
        (b"EHLO a b <c>\r\n", b"500 what\r\n"),
        (b"EHLO " + b"x" * 600 + b"\r\n", b"500 line too long\r\n"),
        (b"EHLO x\r\n", b"421 4.3.2 closing\r\n"),
        (b"EHLO a\rNOOP\r\n", b"250 a\r\n250 noop\r\n"),
    ],
)
def test_the_word_of_the_mta_on_a_command_reaches_the_client(command: bytes, reply: bytes) -> None:
    watch = greeted()
    watch.receive_from_client(command)
    to_client = watch.receive_from_mta(reply)
    assert to_client + watch.take_rest()[1] == reply
    assert watch.stage is Stage.OVER


def test_two_replies_to_one_command_are_a_wrong_answer() -> None:
    watch = greeted()
    watch.receive_from_client(b"EHLO x\r\n")
    with pytest.raises(WrongAnswer):
        watch.receive_from_mta(b"250 to the header\r\n250 to EHLO\r\n")


def test_a_421_may_come_at_any_time() -> None:
    watch = greeted()
    assert watch.receive_from_mta(b"421 4.4.2 timeout\r\n") == b"421 4.4.2 timeout\r\n"
    assert watch.stage is Stage.OVER


@pytest.mark.parametrize("greeting", [b"421 4.3.2 busy\r\n", b"554-a\r\n554 b\r\n"])
def test_a_greeting_that_refuses_is_given_by_its_last_line(greeting: bytes) -> None:
    for chunks in every_split(greeting):
        with pytest.raises(Refused) as caught:
            feed(ReplyWatch(), chunks, [])
        assert str(caught.value).encode() == greeting.splitlines()[-1]


@pytest.mark.parametrize("greeting", [b"250 ok\r\n", b"500 what\r\n", b"SSH-2.0\r\n"])
def test_a_greeting_of_something_else_is_a_wrong_answer(greeting: bytes) -> None:
    with pytest.raises(WrongAnswer):
        ReplyWatch().receive_from_mta(greeting)


def test_a_line_without_an_end_goes_on_as_it_comes() -> None:
    watch = greeted()
    assert watch.receive_from_client(b"x" * (MAX_FIRST_LINE - 1)) == b""
    assert watch.receive_from_client(b"x") == b"x" * MAX_FIRST_LINE
    assert watch.stage is Stage.REPLY


def test_a_client_that_ends_within_its_first_line() -> None:
    watch = greeted()
    assert watch.receive_from_client(b"QUI") == b""
    assert watch.receive_client_eof() == b"QUI"


@given(st.binary(max_size=200))
def test_whatever_the_mta_says_nothing_but_replies_reaches_the_client(data: bytes) -> None:
    complaint = "."
    passed: list[bytes] = []
    try:
        feed(ReplyWatch(), [data], passed)
    except (WrongAnswer, Refused) as error:
        complaint = str(error)
    assert complaint.isprintable()
    assert data.startswith(b"".join(passed))
