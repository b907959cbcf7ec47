"""The tables of lists, by their content: compiled once, for however many policies and however often they change.

Contract: `prepare` compiles what is large in the list process, so that `compile_policy`, given `digest` and `compile_text`, has nothing
slow left to do. What is small is compiled there and then: that is quicker than to ask another process (64 KiB of text: 5 ms).
"""

import asyncio
from collections.abc import Iterable, Mapping

from postwarden_operator.compiler import (
    BadList,
    CompiledList,
    ListContent,
    ListText,
    compile_list,
    digest_of,
    list_texts,
    unpacked_size,
)
from postwarden_operator.policy import ConfigMapKey, ScreeningPolicy
from postwarden_operator.reconcile.list_process import ListProcess

SMALL = 64 * 1024
"""Bytes of a list's text, up to which it is compiled in the caller's thread."""


def is_small(contents: Iterable[bytes]) -> bool:
    """Unpacked."""
    size = 0
    for content in contents:
        size += unpacked_size(content, SMALL + 1)
        if size > SMALL:
            return False
    return True


class ListTables:
    """Used from one event loop."""

    def __init__(self, process: ListProcess) -> None:
        self._process = process
        self._digests: dict[int, tuple[bytes, str]] = {}
        """By id; the content is kept, or another one could get its id."""
        self._tables: dict[ListText, CompiledList | BadList] = {}

    def at_hand(self, policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]) -> bool:
        """Whether the policy compiles at once: its lists are small, or compiled already."""
        contents = _contents(lists)
        if not self._digested(contents):
            return is_small(contents)
        return all(
            text in self._tables or is_small(source.content for source in text.sources)
            for text in list_texts(policy, lists, self.digest)
        )

    async def prepare(self, policy: ScreeningPolicy, lists: Mapping[ConfigMapKey, ListContent]) -> None:
        """Until `at_hand`. Raises ProcessLost."""
        new = [content for content in _contents(lists) if id(content) not in self._digests]
        for content, digest in zip(
            new, await asyncio.to_thread(lambda: [digest_of(each) for each in new]), strict=True
        ):
            self._digests[id(content)] = content, digest
        for text in list_texts(policy, lists, self.digest):
            if text not in self._tables and not is_small(source.content for source in text.sources):
                known = {
                    digest: blob
                    for table in self._tables.values()
                    if isinstance(table, CompiledList)
                    for digest, blob in table.blobs.items()
                }
                try:
                    self._tables[text] = await self._process.compile(text, known)
                except BadList as bad:
                    self._tables[text] = bad

    def digest(self, content: bytes) -> str:
        """For compile_policy."""
        known = self._digests.get(id(content))
        return digest_of(content) if known is None else known[1]

    def compile_text(self, text: ListText) -> CompiledList:
        """For compile_policy. Raises BadList."""
        known = self._tables.get(text)
        if isinstance(known, BadList):
            raise BadList(known.errors)
        return compile_list(text) if known is None else known

    def keep_only(self, used: Iterable[tuple[ScreeningPolicy, Mapping[ConfigMapKey, ListContent]]]) -> None:
        """Forget the tables and digests of all but these policies with these lists."""
        contents: set[int] = set()
        texts: set[ListText] = set()
        for policy, lists in used:
            large = _contents(lists)
            if self._digested(large):  # else there is no table of them yet
                contents.update(map(id, large))
                texts.update(list_texts(policy, lists, self.digest))
        self._digests = {key: each for key, each in self._digests.items() if key in contents}
        self._tables = {text: table for text, table in self._tables.items() if text in texts}

    @property
    def empty(self) -> bool:
        """Nothing is remembered."""
        return not self._digests

    def _digested(self, contents: Iterable[bytes]) -> bool:
        return all(id(content) in self._digests for content in contents)

    def close(self) -> None:
        """End the process."""
        self._process.close()


def _contents(lists: Mapping[ConfigMapKey, ListContent]) -> list[bytes]:
    return [content for content in lists.values() if isinstance(content, bytes)]
