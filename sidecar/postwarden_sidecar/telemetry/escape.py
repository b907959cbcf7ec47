"""Client text made safe to show: one line, no control characters, bounded.

A record's texts are bytes decoded as latin-1 (`engine.record`). Whatever a client sends, the results here have only characters
that `str.isprintable` accepts, so no newline, terminal sequence or text-direction mark gets into a log.
"""

from __future__ import annotations

from postwarden_sidecar.engine.record import MAX_TEXT

MAX_REASON = 2 * MAX_TEXT  # characters: our own sentence, and a client's text in it
_C_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 0x5C: "\\\\"}
_OCTAL = [
    _C_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in range(256)
]


def printable(text: str, limit: int = MAX_TEXT) -> str:
    r"""For spans, JSON and the terminal: UTF-8 is shown as such, all else as `\r`, `\x1b`, `\u2028`; a backslash is doubled, so that it
    can be read back. limit: characters of the input that are kept."""
    text = text[:limit]
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    octets = text.replace("\\", "\\\\").encode("latin-1", "replace")
    decoded = octets.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else _escaped(c) for c in decoded)


def _escaped(character: str) -> str:
    r"""`\x` from 80 on is left to bytes that are no UTF-8: a C1 control character is `\u0085`."""
    if 0x80 <= ord(character) <= 0xFF:
        return f"\\u{ord(character):04x}"
    return character.encode("unicode_escape").decode()


def octal(text: str, limit: int | None = None) -> str:
    r"""As postscreen shows what came before the greeting: `\r\n`, and `\ooo` for binary (recorded case v-pregreet-14). limit:
    characters of the result, as postscreen counts; None: all."""
    return "".join(_OCTAL[byte] for byte in text.encode("latin-1", "replace"))[:limit]


def question_marks(text: str, limit: int = MAX_TEXT) -> str:
    """As postscreen shows everything else: UTF-8 as such and `?` for each character or byte that can't be printed (case v-engine-16)."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    decoded = text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else "?" for c in decoded)
