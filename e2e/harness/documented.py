"""The configuration of mail servers as the documentation shows it, so that tests run what readers copy."""

import re
from pathlib import Path

HANDOFF = Path(__file__).parents[2] / "docs/handoff.md"

DOCUMENTED_PORT = "2525"
"""Where the documentation's mail servers listen; a test's server puts its own port in this one's place."""


def documented(language: str) -> tuple[str, ...]:
    """The lines of the one block of docs/handoff.md that is marked with `language`, without comments and empty lines."""
    (block,) = re.findall(
        rf"^```{re.escape(language)}\n(.*?)^```$", HANDOFF.read_text(), re.MULTILINE | re.DOTALL
    )
    return tuple(line for line in block.splitlines() if line and not line.startswith("#"))
