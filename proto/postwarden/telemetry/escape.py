"""Text of others made safe to show: one line, no control characters, bounded.

Texts are latin-1, a character a byte, or our own. Whatever they hold, the result has only characters that `str.isprintable` accepts, so no
newline, terminal sequence or text-direction mark gets into a log.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_TEXT = 200  # characters; as many as a sidecar keeps of any text from a client


def printable(text: str, limit: int = MAX_TEXT) -> str:
    r"""For spans, JSON and the terminal: UTF-8 is shown as such, all else as `\r`, `\x1b`, `\u2028`; a backslash is doubled, so that it
    can be read back. limit: characters of the input that are kept."""
    text = text[:limit]
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    if text.isascii():  # an early talker's line ends, mostly: a tenth of what the long way takes
        return text.encode("unicode_escape").decode()
    octets = text.replace("\\", "\\\\").encode("latin-1", "replace")
    decoded = octets.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else _escaped(c) for c in decoded)


def all_printable(texts: Sequence[str]) -> Sequence[str]:
    """Each of them by itself as `printable` has it. Looked at together first: nearly all texts are plain, and one look costs what
    it costs for each."""
    together = "".join(texts)
    if len(together) <= MAX_TEXT and together.isascii() and together.isprintable() and "\\" not in together:
        return texts
    return [printable(text) for text in texts]


def _escaped(character: str) -> str:
    r"""`\x` from 80 on is left to bytes that are no UTF-8: a C1 control character is `\u0085`."""
    if 0x80 <= ord(character) <= 0xFF:
        return f"\\u{ord(character):04x}"
    return character.encode("unicode_escape").decode()
