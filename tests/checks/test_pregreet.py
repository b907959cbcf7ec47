"""The greeting test."""

from __future__ import annotations

import pytest
from engine.scene import make_rules
from postwarden_sidecar.checks import pregreet


@pytest.mark.parametrize(("banner", "on"), [("", False), (None, True), ("mx.example.org ESMTP", True)])
def test_an_empty_banner_turns_the_test_off(banner: str | None, on: bool) -> None:
    assert pregreet.enabled(make_rules(banner=banner)) is on
