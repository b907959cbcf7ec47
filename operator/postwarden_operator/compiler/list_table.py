"""The text of a list, from one ConfigMap key or several, becomes a table: the slow part of compiling a policy, in one call.

Contract: pure, and made to be run in another process: what goes in and comes out is plain data. Sources are joined before they are
parsed, so an `if` of PostfixCIDR may end in the next one. Of a Plain list no line depends on another: each source is parsed by itself,
and `parsed` remembers that, so that of several ConfigMaps only the one that changed is read again.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.content import BlobContent, CompiledList, CompiledTable
from postwarden_operator.compiler.flatten import flatten
from postwarden_operator.compiler.plain_list import parse_lines, parse_plain
from postwarden_operator.compiler.postfix_cidr import parse_postfix_cidr
from postwarden_operator.compiler.rows import Rows
from postwarden_operator.compiler.sources import join
from postwarden_operator.compiler.table import Shard, shards_of
from postwarden_operator.policy.vocabulary import ListFormat


@dataclass(frozen=True, slots=True)
class ListSource:
    """name: for a person. digest: SHA-256 of the content, which stands for it."""

    name: str
    digest: str
    content: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ListText:
    """A list of a policy's rule. action: of all its lines, where the format does not let each say its own."""

    format: ListFormat
    action: int
    sources: tuple[ListSource, ...]

    @property
    def size(self) -> int:
        """Bytes of all sources, as they are stored."""
        return sum(len(source.content) for source in self.sources)


CompileText = Callable[[ListText], CompiledList]
"""Raises BadList."""


def digest_of(content: bytes) -> str:
    """What stands for a list's content."""
    return hashlib.sha256(content).hexdigest()


class Parsed:
    """Sources of Plain lists that were parsed: the rows, and how many lines there are. Those not used for longest are forgotten."""

    def __init__(self, most_rows: int) -> None:
        """most_rows: of all sources together that are kept."""
        self._most_rows = most_rows
        self._known: OrderedDict[tuple[str, int], tuple[Rows, int]] = OrderedDict()

    def parse(self, source: ListSource, action: int) -> tuple[Rows, int] | None:
        """None where it has errors. Raises BadList where it can't be read at all."""
        key = source.digest, action
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        lines = join([(source.name, source.content)]).lines
        rows, errors = parse_lines(lines, action)
        if errors:
            return None
        self._known[key] = rows, len(lines)
        while (
            sum(_count(rows) for rows, _ in self._known.values()) > self._most_rows and len(self._known) > 1
        ):
            self._known.popitem(last=False)
        return rows, len(lines)


def _count(rows: Rows) -> int:
    return len(rows.ipv4) + len(rows.ipv6)


def compile_list(text: ListText, parsed: Parsed | None = None) -> CompiledList:
    """Raises BadList."""
    if text.format is ListFormat.PLAIN:
        return compiled_rows(_plain(text, parsed if parsed is not None else Parsed(0)))
    # A dunno line of Postfix's table goes on with the next rule, where a rule's own Dunno ends the search.
    joined = join([(source.name, source.content) for source in text.sources])
    return compiled_rows(parse_postfix_cidr(joined), left_out=pb.ACCESS_ACTION_DUNNO)


def _plain(text: ListText, parsed: Parsed) -> Rows:
    rows, lines_before = Rows(), 0
    for source in text.sources:
        found = parsed.parse(source, text.action)
        if found is None:
            break
        for version in (4, 6):
            rows.of(version).extend(found[0].of(version), lines_before=lines_before)
        lines_before += found[1]
    else:
        if _count(rows):
            return rows
    # All that is wrong, of all sources.
    return parse_plain(join([(source.name, source.content) for source in text.sources]), text.action)


def compiled_rows(rows: Rows, *, left_out: int | None = None) -> CompiledList:
    """Rows of which the first match wins, as a table."""
    shards = {version: shards_of(flatten(rows.of(version), left_out=left_out)) for version in (4, 6)}
    blobs: dict[str, BlobContent] = {
        shard.blob.hash: shard.blob for each in shards.values() for shard in each
    }
    return CompiledList(_named(shards), blobs)


def _named(shards: Mapping[int, list[Shard]]) -> CompiledTable:
    return CompiledTable(
        ipv4=tuple(shard.blob.hash for shard in shards[4]),
        ipv6=tuple(shard.blob.hash for shard in shards[6]),
        ipv4_lines_before=tuple(shard.lines_before for shard in shards[4]),
        ipv6_lines_before=tuple(shard.lines_before for shard in shards[6]),
    )
