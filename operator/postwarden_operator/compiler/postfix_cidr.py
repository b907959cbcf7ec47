"""Lists of format PostfixCIDR: Postfix's cidr_table(5), with the actions of its access lists.

Contract, from that manual and Postfix 3.7's behaviour (recorded):
- blank lines and lines whose first character (after white space) is `#` are left out, also within a logical line; a line that begins
  with white space continues the one before;
- `PATTERN ACTION`, `!PATTERN ACTION`, `if PATTERN`, `if !PATTERN`, `endif`, nested; words in any case. A pattern is an address or
  a network, which may stand in brackets;
- a pattern of one IP version never matches an address of the other, negated or not.
Where Postfix warns and skips a line, we refuse the list: a line that its author counts on must not be missing in silence.
A line's number is that of its first physical line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postwarden.screening.v1 import screening_pb2

from postwarden_operator.compiler.rows import ADDRESS_BITS, Rows
from postwarden_operator.compiler.sources import BadList, JoinedList, LineError
from postwarden_operator.policy.network import Network, NotANetwork, parse_ipv4, parse_network
from postwarden_operator.policy.text_format import quoted

DEEPEST_NESTING = 32
"""`if` in `if`. Each `if !` may cut a row into one piece more; the bound keeps a list's rows within 33 times its lines."""

_ACTIONS: dict[str, int] = {
    "permit": screening_pb2.ACCESS_ACTION_PERMIT,
    "reject": screening_pb2.ACCESS_ACTION_REJECT,
    "dunno": screening_pb2.ACCESS_ACTION_DUNNO,
}

_KEYWORD = re.compile(r"(if|endif)(?![a-z0-9])", re.IGNORECASE)
_RULE = re.compile(r"((?:!\s*)*)([^!\s]\S*)\s*(.*)", re.DOTALL)
_BRACKETS = re.compile(r"\[([^\[\]]*)\](/[0-9]+)?")

Interval = tuple[int, int]


class _Wrong(ValueError):
    """str() is what is wrong with a line."""


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Some addresses of one IP version: sorted, disjoint intervals."""

    version: int
    intervals: tuple[Interval, ...]

    def within(self, other: "_Addresses | None") -> "_Addresses":
        """Those that the other holds too; None holds all of both versions."""
        if other is None:
            return self
        if self.version != other.version:
            return _Addresses(self.version, ())
        common = (
            (max(first, other_first), min(last, other_last))
            for first, last in self.intervals
            for other_first, other_last in other.intervals
        )
        return _Addresses(self.version, tuple((first, last) for first, last in common if first <= last))


@dataclass(frozen=True, slots=True)
class _Block:
    """An open `if`: its line, and the addresses that get into it."""

    line: int
    addresses: _Addresses


def parse_postfix_cidr(joined: JoinedList) -> Rows:
    """Rows in which blocks and negations are resolved: a line may give several or none. Raises BadList."""
    rows = Rows()
    errors: list[LineError] = []
    blocks: list[_Block] = []
    entries = 0
    for number, line in _logical_lines(joined.lines):
        if not blocks and (plain := _plain_rule(line)) is not None:
            entries += 1
            rows.ipv4.append((*plain, number))
            continue
        try:
            keyword = _KEYWORD.match(line)
            if keyword is None:
                entries += 1
                addresses, action = _rule(line)
                inside = addresses.within(blocks[-1].addresses if blocks else None)
                columns = rows.of(inside.version)
                for first, last in inside.intervals:
                    columns.append((first, last, action, number))
            elif keyword[1].lower() == "if":
                _open(blocks, number, line[keyword.end() :])
            else:
                _close(blocks, line[keyword.end() :])
        except _Wrong as error:
            errors.append(LineError(number, str(error)))
    errors += [LineError(block.line, "this if has no endif") for block in blocks]
    if errors:
        raise joined.bad(sorted(errors, key=lambda error: error.line))
    if entries == 0:
        raise BadList(
            [f"{' and '.join(joined.names)} is an empty list; give at least one network, or remove the rule"]
        )
    return rows


def _logical_lines(lines: list[str]) -> Iterator[tuple[int, str]]:
    begun, text = 0, ""
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if begun and line[0].isspace():
            text = f"{text} {stripped}"
            continue
        if begun:
            yield begun, text
        # A first line that begins with white space is told apart by it.
        begun, text = number, line.rstrip()
    if begun:
        yield begun, text


def _plain_rule(line: str) -> tuple[int, int, int] | None:
    """First and last address and action of `192.0.2.0/24 reject`: what most lines are, in half the time."""
    pattern, _, word = line.partition(" ")
    ends = parse_ipv4(pattern)
    action = _ACTIONS.get(word.strip().lower()) if ends is not None else None
    return None if ends is None or action is None else (*ends, action)


def _rule(line: str) -> tuple[_Addresses, int]:
    if line[0].isspace():
        raise _Wrong("begins with white space, and there is no line before that it could continue")
    match = _RULE.fullmatch(line)
    if match is None:
        raise _Wrong("has no address or network after !")
    negation, pattern, result = match.groups()
    addresses = _pattern(negation, pattern)
    action = _ACTIONS.get(result.lower())
    if action is None:
        said = f"{quoted(result)} is no action here" if result else f"{pattern} has no action"
        raise _Wrong(f"{said}; write permit, reject or dunno")
    return addresses, action


def _open(blocks: list[_Block], number: int, condition: str) -> None:
    match = _RULE.fullmatch(condition.strip())
    try:
        if match is None:
            raise _Wrong("if has no address or network")
        if match[3]:
            raise _Wrong(
                f"{quoted(match[3])} after if and its network is too much; write it on a line of its own"
            )
        addresses = _pattern(match[1], match[2])
    except _Wrong:
        # It is open all the same: its endif must not be called wrong too.
        blocks.append(_Block(number, _Addresses(4, ())))
        raise
    blocks.append(_Block(number, addresses.within(blocks[-1].addresses if blocks else None)))
    if len(blocks) > DEEPEST_NESTING:
        raise _Wrong(f"if is nested deeper than {DEEPEST_NESTING} times")


def _close(blocks: list[_Block], rest: str) -> None:
    if not blocks:
        raise _Wrong("endif without an if before it")
    blocks.pop()
    if rest.strip():
        raise _Wrong(f"{quoted(rest.strip())} after endif is too much; write it on a line of its own")


def _pattern(negation: str, pattern: str) -> _Addresses:
    brackets = _BRACKETS.fullmatch(pattern)
    try:
        network = parse_network(brackets[1] + (brackets[2] or "") if brackets else pattern)
    except NotANetwork as error:
        raise _Wrong(str(error)) from None
    if negation.count("!") % 2 == 0:
        return _Addresses(network.version, ((network.first, network.last),))
    return _Addresses(network.version, tuple(_complement(network)))


def _complement(network: Network) -> Iterator[Interval]:
    if network.first > 0:
        yield 0, network.first - 1
    highest = (1 << ADDRESS_BITS[network.version]) - 1
    if network.last < highest:
        yield network.last + 1, highest
