"""The fixture of a page that processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from postwarden_sidecar.ipc.page import Page


@pytest.fixture
def page() -> Iterator[Page]:
    """All zero; no worker writes to it."""
    made = Page.create()
    yield made
    made.close()
    os.close(made.descriptor)
