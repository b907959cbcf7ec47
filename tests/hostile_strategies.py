"""Hypothesis strategies of what a client says that is no mail: to terminals, log readers, parsers, people."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTILE = (
    b"\x1b[31mred\x1b[0m", b"\x1b]8;;http://x/\x07link", b"\x1b]0;title\x07", b"\x1b[2J\x1b[H", b"\x9b31m", b"\xc2\x9b31m",  # terminals
    b"\r\n", b"\n", b"\r", b"\x0b", b"\x0c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\x1c\x1d\x1e",  # ends of lines
    b"\r\nNov 22 03:04:05 mx postfix/postscreen[1]: PASS NEW [192.0.2.1]:25", b'\n{"postwarden.verdict":"pass_new"}',  # forged lines
    b'"', b"'", b"\\", b'\\"', b'","x":"', b"\\u001b", b"{}", b"}]", b"%s%n%(x)s", b"${x}", b"{0}", b"<script>", b"[bold red]", b"`id`",
    b"\0", b"\x01\x02\x08\x7f", b"\t", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80", b"\xc3",  # no UTF-8
    "\u202e".encode(), "\u2066\u2069".encode(), "\u200b\u200d\ufeff".encode(), "\u00ad".encode(), "\U000e0041".encode(),  # unseen, turned
    "j\u00fcrgen".encode(), "\u4f60\u597d".encode(), "\U0001f4a9".encode(), ("e" + "\u0301" * 40).encode(),
    b"warning: fatal: reject: RCPT from [192.0.2.1]: 550", b"<a@b.example>", b" ", b"x" * 2048, b"\x1b" * 300,
)  # fmt: skip


def hostile_bytes() -> st.SearchStrategy[bytes]:
    """Up to a few KB of what breaks terminals, logs and parsers that trust it."""
    piece = st.sampled_from(HOSTILE) | st.binary(max_size=12)
    return st.lists(piece, max_size=6).map(b"".join)


def hostile_texts() -> st.SearchStrategy[str]:
    """As a record has a client's words, a character a byte; and any text at all, with lone surrogates."""
    return hostile_bytes().map(lambda said: said.decode("latin-1")) | st.text(max_size=40)
