"""Lists of format Plain: an address or network a line; `#` begins a comment, anywhere; blank lines."""

from postwarden_operator.compiler.rows import Rows
from postwarden_operator.compiler.sources import BadList, JoinedList, LineError
from postwarden_operator.policy.network import NotANetwork, parse_network


def parse_plain(joined: JoinedList, action: int) -> Rows:
    """All rows have the rule's action. Raises BadList."""
    rows = Rows()
    errors: list[LineError] = []
    for number, line in enumerate(joined.lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            network = parse_network(text)
        except NotANetwork as error:
            errors.append(LineError(number, str(error)))
        else:
            rows.of(network.version).append((network.first, network.last, action, number))
    if errors:
        raise joined.bad(errors)
    if not rows.ipv4 and not rows.ipv6:
        raise BadList(
            [f"{' and '.join(joined.names)} is an empty list; give at least one network, or remove the rule"]
        )
    return rows
