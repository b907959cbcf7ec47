"""The sources of a list, joined: one text, in which each line still knows where it comes from.

Contract: sources are joined before they are parsed, so an `if` of one may end in the next. A source that does not end with a line
break gets one. gzip is known by its first bytes, which no UTF-8 text has.
"""

import codecs
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST_LIST = 64 * 1024 * 1024
"""Bytes of one source, unpacked: about three million lines. A ConfigMap holds 1 MiB, which gzip could blow up a thousandfold."""

MOST_ERRORS = 20
"""Errors that one list reports: more help nobody, and status is small."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
"""zlib: a window of 2**15 bytes and gzip's header."""


class BadList(ValueError):
    """A list that can't be used. errors: a sentence each, with source and line; never empty."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)  # what it is made of again on the other side of a pipe

    def __str__(self) -> str:
        return "; ".join(self.errors)


@dataclass(frozen=True, slots=True)
class LineError:
    """line: of the joined text, 1-based."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class JoinedList:
    """lines: of all sources. first_lines: the number (0-based, in `lines`) at which each source begins."""

    names: tuple[str, ...]
    first_lines: tuple[int, ...]
    lines: list[str]

    def bad(self, errors: Sequence[LineError]) -> BadList:
        """These errors as what a person is told."""
        told = [f"{self.place(error.line)}: {error.message}" for error in errors[:MOST_ERRORS]]
        if len(errors) > MOST_ERRORS:
            told.append(f"and {len(errors) - MOST_ERRORS} errors more")
        return BadList(told)

    def place(self, line: int) -> str:
        """Source and line number in it, of a line of the joined text (1-based)."""
        source = bisect_right(self.first_lines, line - 1) - 1
        return f"{self.names[source]}, line {line - self.first_lines[source]}"


def join(sources: Sequence[tuple[str, bytes]]) -> JoinedList:
    """Sources are (what a person calls it, content). Raises BadList."""
    errors: list[str] = []
    names: list[str] = []
    first_lines: list[int] = []
    lines: list[str] = []
    for name, content in sources:
        names.append(name)
        first_lines.append(len(lines))
        try:
            text = _unpack(content).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            errors.append(f"{name} is not UTF-8 text: byte {error.start} is wrong")
        except _Unpackable as error:
            errors.append(f"{name} {error}")
        else:
            # Not splitlines(), which also breaks lines at characters that no editor breaks them at.
            lines += text.removesuffix("\n").split("\n") if text else ()
    if errors:
        raise BadList(errors)
    return JoinedList(tuple(names), tuple(first_lines), lines)


class _Unpackable(ValueError):
    pass


def text_of(content: bytes) -> bytes | None:
    """A source as UTF-8 text without a byte order mark, each line with a line break at its end. None where it is none: `join` says why."""
    try:
        text = _unpack(content).removeprefix(codecs.BOM_UTF8)
        text.decode()
    except (UnicodeDecodeError, _Unpackable):
        return None
    return text + b"\n" if text and not text.endswith(b"\n") else text


def unpacked_size(content: bytes, most: int) -> int:
    """Bytes of a source as text, `most` if there are more. A damaged one counts as far as it can be read."""
    if not content.startswith(_GZIP_MAGIC):
        return min(len(content), most)
    try:
        return len(_members(content, most))
    except (zlib.error, _Unpackable):
        return 0


def _unpack(content: bytes) -> bytes:
    if not content.startswith(_GZIP_MAGIC):
        if len(content) > LARGEST_LIST:
            raise _Unpackable(_too_large())
        return content
    try:
        unpacked = _members(content, LARGEST_LIST + 1)
    except zlib.error:
        raise _Unpackable("is a damaged gzip file; compress the list again") from None
    if len(unpacked) > LARGEST_LIST:
        raise _Unpackable(_too_large())
    return unpacked


def _members(content: bytes, most: int) -> bytes:
    """A gzip file may have several members, one after the other. The first `most` bytes. Raises zlib.error, _Unpackable."""
    unpacked = bytearray()
    while content and len(unpacked) < most:
        member = zlib.decompressobj(_GZIP_WBITS)
        unpacked += member.decompress(content, most - len(unpacked))
        if not member.eof and len(unpacked) < most:
            raise _Unpackable("is a gzip file that breaks off; compress the list again")
        content = member.unused_data
    return bytes(unpacked)


def _too_large() -> str:
    return f"is larger than {LARGEST_LIST >> 20} MiB when unpacked; split it into several rules"
