"""Fixtures with a running operator, for e2e/conftest.py to import."""

from collections.abc import Iterator

import pytest

from harness.cluster import ApiServer
from harness.operator_process import OperatorProcess

__all__ = ["operator"]


@pytest.fixture(scope="session")
def operator(api_server: ApiServer) -> Iterator[OperatorProcess]:
    """The operator of this test run, shared by its tests: each works in a namespace of its own."""
    with OperatorProcess(api_server) as started:
        yield started
