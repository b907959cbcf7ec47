"""The text of a list, from one ConfigMap key or several, becomes a table: the slow part of compiling a policy, in one call.

Contract: pure, and made to be run in another process: what goes in and comes out is plain data. Sources are joined before they are
parsed, so an `if` of PostfixCIDR may end in the next one. Of a Plain list no line depends on another: each source is parsed by itself.
`Lists` remembers what it compiled: only lines that changed are parsed again (of PostfixCIDR all), and of the table only what they touch is
made again. What comes of it is what `compile_list` makes from nothing.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_operator.compiler.content import BlobContent, CompiledList, CompiledTable
from postwarden_operator.compiler.interval_table import IntervalTable, table_of
from postwarden_operator.compiler.plain_list import PlainText, parse_plain, parse_text
from postwarden_operator.compiler.postfix_cidr import parse_postfix_cidr
from postwarden_operator.compiler.rows import Rows
from postwarden_operator.compiler.segment import Segment
from postwarden_operator.compiler.sources import join, text_of
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


class Lists:
    """Lists that were compiled, and their sources: what did not change is not done again. Those not used for longest are forgotten."""

    def __init__(self, most_rows: int) -> None:
        """most_rows: of all sources together that are kept, and of all tables with what they were made of."""
        self._most_rows = most_rows
        self._sources: OrderedDict[tuple[str, int], tuple[str, PlainText]] = OrderedDict()
        self._tables: OrderedDict[_Identity, dict[int, IntervalTable]] = OrderedDict()

    def compile(self, text: ListText, known: Container[str] = ()) -> CompiledList:
        """known: hashes of blobs that are left out of what is given. Raises BadList."""
        # A dunno line of Postfix's table goes on with the next rule, where a rule's own Dunno ends the search.
        plain = text.format is ListFormat.PLAIN
        segments, left_out = (self._plain(text), None) if plain else (_postfix(text), pb.ACCESS_ACTION_DUNNO)
        identity = text.format, text.action, tuple(source.name for source in text.sources)
        before = self._tables.pop(identity, {})
        tables: dict[int, IntervalTable] = {}
        blobs: dict[str, BlobContent] = {}
        for version in (4, 6):
            tables[version], new = table_of(
                segments, version, left_out=left_out, before=before.get(version), has=known.__contains__
            )
            blobs.update((blob.hash, blob) for blob in new)
        self._tables[identity] = tables
        _forget(self._tables, _rows_of, self._most_rows)
        return CompiledList(_named(tables), blobs)

    def _plain(self, text: ListText) -> list[Segment]:
        """No line depends on another: each source is parsed by itself."""
        segments = []
        for source in text.sources:
            found = self._parsed(source, text.action)
            if found is None:
                break
            segments.append(found)
        else:
            if any(map(len, segments)):
                return segments
        # All that is wrong, of all sources.
        joined = join([(source.name, source.content) for source in text.sources])
        return [Segment(parse_plain(joined, text.action), len(joined.lines))]

    def _parsed(self, source: ListSource, action: int) -> Segment | None:
        """None where it has errors, or can't be read at all."""
        key = source.name, action
        known = self._sources.get(key)
        if known is None or known[0] != source.digest:
            text = text_of(source.content)
            made = None if text is None else parse_text(text, action, None if known is None else known[1])
            if made is None:
                return None  # what was known stays: the next edit mends it
            known = self._sources[key] = source.digest, made
        self._sources.move_to_end(key)
        _forget(self._sources, lambda each: each[1].size, self._most_rows)
        return known[1].segment


_Identity = tuple[ListFormat, int, tuple[str, ...]]
"""Of a list, whatever its content: format, action, and the names of its sources."""


def _rows_of(tables: Mapping[int, IntervalTable]) -> int:
    sources = sum(map(len, tables[4].segments))
    return max(sources, sum(len(table.rows) for table in tables.values()))


_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


def _forget(kept: OrderedDict[_Key, _Kept], rows_of: Callable[[_Kept], int], most_rows: int) -> None:
    """The oldest, until there are no more rows than that; the newest stays."""
    rows = sum(map(rows_of, kept.values()))
    while rows > most_rows and len(kept) > 1:
        _, oldest = kept.popitem(last=False)
        rows -= rows_of(oldest)


def compile_list(text: ListText) -> CompiledList:
    """From nothing. Raises BadList."""
    return Lists(0).compile(text)


def _postfix(text: ListText) -> list[Segment]:
    joined = join([(source.name, source.content) for source in text.sources])
    return [Segment(parse_postfix_cidr(joined), len(joined.lines))]


def compiled_rows(rows: Rows) -> CompiledList:
    """Rows of which the first match wins, as a table."""
    made = {version: table_of([Segment(rows, 0)], version) for version in (4, 6)}
    return CompiledList(
        _named({version: table for version, (table, _) in made.items()}),
        {blob.hash: blob for _, blobs in made.values() for blob in blobs},
    )


def _named(tables: Mapping[int, IntervalTable]) -> CompiledTable:
    shards = {version: tuple(table.shards.values()) for version, table in tables.items()}
    return CompiledTable(
        ipv4=tuple(shard.hash for shard in shards[4]),
        ipv6=tuple(shard.hash for shard in shards[6]),
        ipv4_lines_before=tuple(shard.lines_before for shard in shards[4]),
        ipv6_lines_before=tuple(shard.lines_before for shard in shards[6]),
    )
