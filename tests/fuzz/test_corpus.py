"""Every committed input of the fuzz targets keeps their promises; finds are there too, so that they stay mended."""

from __future__ import annotations

from pathlib import Path

import fuzz_targets
import pytest

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


@pytest.mark.parametrize("name", fuzz_targets.NAMES)
def test_the_corpus_finds_nothing(name: str) -> None:
    target = fuzz_targets.load(name)
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) >= 20
    for path in inputs:
        try:
            target(path.read_bytes())
        except Exception as error:
            pytest.fail(f"{path.relative_to(CORPUS)}: {type(error).__name__}: {error}")


def test_every_folder_of_the_corpus_is_a_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(fuzz_targets.NAMES)
