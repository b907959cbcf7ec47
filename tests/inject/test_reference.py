"""The documentation says what the code does."""

import re
from pathlib import Path

from postwarden.telemetry.reference_page import filled
from postwarden_operator.inject.annotations import ANNOTATIONS, PREFIX
from postwarden_operator.inject.reference import tables

PAGE = Path(__file__).parents[2] / "docs" / "injection.md"


def test_the_page_has_the_table_as_the_code_makes_it() -> None:
    text = PAGE.read_text()
    assert tables()["annotations"] in text
    assert filled(text, tables()) == text


def test_every_annotation_that_the_page_speaks_of_is_one() -> None:
    known = {each.name for each in ANNOTATIONS} | {"not-injected", "injection", "inject"}
    assert set(re.findall(rf"{PREFIX}([a-z-]+)", PAGE.read_text())) <= known
