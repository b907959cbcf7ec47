"""The table of docs/injection.md, made from what the code uses.

`python -m postwarden_operator.inject.reference FILE` writes it anew between its markers; a test compares.
"""

import sys
from pathlib import Path

from postwarden.telemetry.reference_page import filled, table

from postwarden_operator.inject.annotations import ANNOTATIONS, PREFIX


def tables() -> dict[str, str]:
    """The tables by the name of their marker."""
    rows = (
        (f"`{PREFIX}{each.name}`", each.values, f"`{each.default}`" if each.default else "", each.meaning)
        for each in ANNOTATIONS
    )
    return {"annotations": table(("annotation", "values", "default", "meaning"), rows)}


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(), tables()))
