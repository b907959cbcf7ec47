"""Client text made safe to show: one line, no control characters, bounded.

A record's texts are bytes decoded as latin-1 (`engine.record`). Whatever a client sends, the results here have only characters
that `str.isprintable` accepts, so no newline, terminal sequence or text-direction mark gets into a log.
"""

from __future__ import annotations

import re

from postwarden.telemetry.escape import all_printable as all_printable
from postwarden.telemetry.escape import printable as printable

from postwarden_sidecar.engine.record import MAX_TEXT

MAX_REASON = 2 * MAX_TEXT  # characters: our own sentence, and a client's text in it
# What readers of Postfix's log look for, some anywhere in a line: pflogsumm takes a sender `<x reject: RCPT from [192.0.2.1]: 550 …>` for
# a rejection of that address (tried). Postscreen itself does not guard against it.
_KEYWORD = re.compile(r"\b(reject|reject_warning|milter-reject|hold|discard|warning|fatal|panic|error): ")
_C_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 0x5C: "\\\\"}
_OCTAL = [
    _C_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in range(256)
]


def unforgeable(line_part: str) -> str:
    """Without the words by which log readers know a line, where they stand in what a client said: the space behind them becomes `?`."""
    return _KEYWORD.sub(r"\1:?", line_part)


def octal(text: str, limit: int | None = None) -> str:
    r"""As postscreen shows what came before the greeting: `\r\n`, and `\ooo` for binary (recorded case v-pregreet-14). limit:
    characters of the result, as postscreen counts; None: all."""
    return unforgeable("".join(_OCTAL[byte] for byte in text.encode("latin-1", "replace"))[:limit])


def question_marks(text: str, limit: int = MAX_TEXT) -> str:
    """As postscreen shows everything else: UTF-8 as such and `?` for each character or byte that can't be printed (case v-engine-16)."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return unforgeable(text)
    decoded = text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
    return unforgeable("".join(c if c.isprintable() else "?" for c in decoded))
