"""Replies of an MTA are read alike however their bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.handoff.replies import MAX_LINE, MAX_LINES, BadReply, Reply, ReplyParser, escaped
from strategies import smtp_replies, splits


def feed(*chunks: bytes) -> list[Reply]:
    parser = ReplyParser()
    replies = []
    for chunk in chunks:
        parser.receive(chunk)
        while (reply := parser.next_reply()) is not None:
            replies.append(reply)
    return replies


@given(st.lists(smtp_replies(), max_size=4), st.data())
def test_replies_are_read_whatever_the_splits(replies: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(raw for _, raw in replies)
    parsed = feed(*data.draw(splits(stream)))
    assert [(reply.code, reply.raw) for reply in parsed] == replies


def test_a_multi_line_reply_is_one_reply() -> None:
    (reply,) = feed(b"250-mx.example.org\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
    assert reply.lines == (b"mx.example.org", b"SIZE 1000", b"STARTTLS")


def test_a_code_alone_is_a_reply_and_an_lf_alone_ends_a_line() -> None:
    assert [reply.code for reply in feed(b"220\r\n250-\r\n250 ok\n")] == [220, 250]


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"22 short\r\n",
        b"199 no such class\r\n",
        b"600 no such class\r\n",
        b"220x\r\n",
        b"220-one\r\n250 two\r\n",
        b"2" * MAX_LINE,
        b"220-x\r\n" * (MAX_LINES + 1),
        b"+OK POP3\r\n",
    ],
)
def test_what_is_no_reply_is_refused_at_once(stream: bytes) -> None:
    with pytest.raises(BadReply) as caught:
        feed(stream)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(stream: bytes) -> None:
    complaint = "."
    replies: list[Reply] = []
    try:
        replies = feed(stream)
    except BadReply as error:
        complaint = str(error)
    assert complaint.isprintable()
    assert stream.startswith(b"".join(reply.raw for reply in replies))


def test_the_enhanced_code_is_that_of_the_first_line() -> None:
    assert feed(b"550 5.1.10 null MX\r\n")[0].enhanced == "5.1.10"
    assert feed(b"550 no such user 5.1.1\r\n")[0].enhanced == ""


@given(st.binary(max_size=400))
def test_shown_bytes_are_printable_and_bounded(data: bytes) -> None:
    shown = escaped(data, 50)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert len(shown) <= 50


def test_what_waits_behind_a_reply_is_given_back_whole() -> None:
    parser = ReplyParser()
    parser.receive(b"220 hello\r\n250-half a")
    assert parser.next_reply() is not None
    assert parser.next_reply() is None
    assert parser.take_rest() == b"250-half a"
    assert parser.empty
