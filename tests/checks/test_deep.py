"""What is no SMTP command."""

from __future__ import annotations

import pytest
from postwarden_sidecar.checks.deep import is_non_smtp

FORBIDDEN = ("CONNECT", "GET", "POST")


@pytest.mark.parametrize(
    ("word", "failed"),
    [
        (b"", False),
        (b"FROB", False),
        (b"NOOP\tx", False),
        (b"HELP", False),
        (b"GET", True),
        (b"get", True),
        (b"GETX", False),
        (b"Subject:", True),
        (b"Subject", False),  # of `Subject : hello`
        (b"NOOP:", True),
        (b"Subject:hello", True),
        (b"\tNOOP", True),
        (b"<html>", True),
        (b"1", True),
        (b"\xff\xfe", True),
        (b"FROB\xff", True),
        ("FROB\u00e9".encode(), False),
        ("\u00e9".encode(), True),
    ],
)
def test_headers_foreign_protocols_and_broken_text_are_told(word: bytes, failed: bool) -> None:
    assert is_non_smtp(word, FORBIDDEN) is failed


def test_the_forbidden_commands_are_the_policys() -> None:
    assert is_non_smtp(b"frob", ("FROB",))
    assert not is_non_smtp(b"GET", ("FROB",))
