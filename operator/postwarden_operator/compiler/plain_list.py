"""Lists of format Plain: an address or network a line; `#` begins a comment, anywhere; blank lines.

No line depends on another: of a text that changed only the lines that did are parsed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from postwarden_operator.compiler.rows import Rows
from postwarden_operator.compiler.segment import Segment, in_common
from postwarden_operator.compiler.sources import BadList, JoinedList, LineError
from postwarden_operator.policy.network import NotANetwork, parse_ipv4, parse_network


def parse_plain(joined: JoinedList, action: int) -> Rows:
    """All rows have the rule's action. Raises BadList."""
    rows, errors = parse_lines(joined.lines, action)
    if errors:
        raise joined.bad(errors)
    if not rows.ipv4 and not rows.ipv6:
        raise BadList(
            [f"{' and '.join(joined.names)} is an empty list; give at least one network, or remove the rule"]
        )
    return rows


def parse_lines(lines: Sequence[str], action: int) -> tuple[Rows, list[LineError]]:
    """What these lines hold, and what is wrong with them: no line depends on another."""
    rows = Rows()
    errors: list[LineError] = []
    firsts, lasts, numbers = rows.ipv4.firsts.append, rows.ipv4.lasts.append, rows.ipv4.lines.append
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        ends = parse_ipv4(text)
        if ends is not None:  # without a call for the row: there are a million of them
            firsts(ends[0])
            lasts(ends[1])
            numbers(number)
        elif text:
            try:
                network = parse_network(text)
            except NotANetwork as error:
                errors.append(LineError(number, str(error)))
            else:
                rows.ipv6.append((network.first, network.last, action, number))
    rows.ipv4.actions.extend(bytes([action]) * len(rows.ipv4.lines))
    return rows, errors


BYTES_OF_LINE = 16
"""What a line with an IPv4 network has, as a rule."""


@dataclass(frozen=True, slots=True)
class PlainText:
    """A source that was parsed. text: see `text_of`."""

    text: bytes = field(repr=False)
    segment: Segment

    @property
    def size(self) -> int:
        """Rows; of a text with much else, as many as take its place."""
        return max(len(self.segment), len(self.text) // BYTES_OF_LINE)


def parse_text(text: bytes, action: int, before: PlainText | None) -> PlainText | None:
    """What `parse_lines` finds. before: the same source as it was; lines that it has at its start and end are not parsed again. None where
    there are errors."""
    if before is None:
        before = PlainText(b"", Segment(Rows(), 0))
    start, end = _whole_lines(before.text, text)
    rows, errors = parse_lines(text[start : len(text) - end].decode().split("\n")[:-1], action)
    if errors:
        return None
    old, lines = before.segment, text.count(b"\n")
    kept = text.count(b"\n", 0, start)
    replaced = old.lines - text.count(b"\n", len(text) - end)
    made = Rows()
    for version in (4, 6):
        columns, source = made.of(version), old.rows.of(version)
        columns.extend(source.cut(0, bisect_right(source.lines, kept)))
        columns.extend(rows.of(version), lines_before=kept)
        after = source.cut(bisect_right(source.lines, replaced), len(source))
        columns.extend(after, lines_before=lines - old.lines)
    return PlainText(text, Segment(made, lines))


def _whole_lines(one: bytes, other: bytes) -> tuple[int, int]:
    """Bytes at the start and at the end of both that are the same."""
    most = min(len(one), len(other))
    start = one.rfind(b"\n", 0, in_common(one, other, most)) + 1
    end = in_common(one[::-1], other[::-1], most - start)
    return start, len(one) - one.index(b"\n", len(one) - end) - 1 if end else 0
