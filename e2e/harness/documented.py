"""What the documentation tells its readers to write, so that tests run what readers copy: mail servers' configuration, searches."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
HANDOFF = DOCS / "handoff.md"

DOCUMENTED_PORT = "2525"
"""Where the documentation's mail servers listen; a test's server puts its own port in this one's place."""


class Search(NamedTuple):
    """The fields of Jaeger's search form."""

    service: str
    operation: str
    tags: dict[str, str]


def documented(language: str) -> tuple[str, ...]:
    """The lines of the one block of docs/handoff.md that is marked with `language`, without comments and empty lines."""
    (block,) = re.findall(
        rf"^```{re.escape(language)}\n(.*?)^```$", HANDOFF.read_text(), re.MULTILINE | re.DOTALL
    )
    return tuple(line for line in block.splitlines() if line and not line.startswith("#"))


def documented_search(known: str, values: Mapping[str, str]) -> Search:
    """The row of docs/tracing.md for what is known, with other values of its tags; those not named stay as documented."""
    row = rf"^\| {re.escape(known)} \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$"
    ((service, operation, written),) = re.findall(row, (DOCS / "tracing.md").read_text(), re.MULTILINE)
    tags = dict(tag.split("=", 1) for tag in written.split())
    assert values.keys() <= tags.keys(), f"{known}: its tags are {written}"
    return Search(service, operation, tags | dict(values))


def console_blocks(page: Path) -> list[list[str]]:
    """The command lines of each console block of a page, without what they say about themselves behind a `#`."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        [re.sub(r"\s{2,}# .*$", "", line) for line in block.replace("\\\n", " ").splitlines()]
        for block in blocks
    ]
