"""Lists of format Plain: an address or network a line; `#` begins a comment, anywhere; blank lines."""

from collections.abc import Sequence

from postwarden_operator.compiler.rows import Rows
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
