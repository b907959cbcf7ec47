"""Client text is made safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.telemetry.escape import octal, printable, question_marks

anything = st.text(st.characters(exclude_categories=()), max_size=400)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"EHLO x\r\n", r"EHLO x\r\n"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (b"back\\slash", r"back\\slash"),
        ("jürgen@exämple".encode(), "jürgen@exämple"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("a\u2028b\u202ec\x85".encode(), r"a\u2028b\u202ec\u0085"),
    ],
)
def test_printable_shows_utf8_and_escapes_the_rest(said: bytes, shown: str) -> None:
    assert printable(said.decode("latin-1")) == shown


def test_octal_is_as_postscreen_recorded_it() -> None:
    said = b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03".decode("latin-1")
    assert octal(said, 100) == r"\026\003\001\002\000\001\000\374\003\003"
    assert octal("EHLO early.example\r\n", 100) == r"EHLO early.example\r\n"


def test_question_marks_stand_for_each_character_or_byte_that_cannot_be_printed() -> None:
    assert question_marks("\tNOOP") == "?NOOP"
    assert question_marks("\xff\xfe\xfd") == "???"
    assert question_marks("jürgen".encode().decode("latin-1")) == "jürgen"


@given(anything)
def test_every_text_becomes_one_bounded_printable_line(text: str) -> None:
    for shown in (printable(text), question_marks(text), octal(text, 100)):
        assert shown.isprintable()
        assert len(shown) <= 2000
    assert len(octal(text, 100)) <= 100


@given(st.binary(max_size=200))
def test_printable_can_be_read_back(said: bytes) -> None:
    shown = printable(said.decode("latin-1"))
    read = bytearray()
    position = 0
    while position < len(shown):
        if shown[position] != "\\":
            read += shown[position].encode()
            position += 1
            continue
        mark = shown[position + 1]
        if mark in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[mark]
            number = int(shown[position + 2 : position + 2 + digits], 16)
            read += bytes([number]) if mark == "x" else chr(number).encode()
            position += 2 + digits
        else:
            read += {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}[mark]
            position += 2
    assert bytes(read) == said


def test_what_a_client_says_is_no_event_for_readers_of_postfix_logs() -> None:
    said = "x reject: RCPT from [192.0.2.99]:25: 550 warning: y"
    expected = "x reject:?RCPT from [192.0.2.99]:25: 550 warning:?y"
    assert question_marks(said) == octal(said, 200) == expected
    assert question_marks(f"{said}\n") == f"{expected}?"
    assert question_marks("MAIL FROM: <a@b>") == "MAIL FROM: <a@b>"
