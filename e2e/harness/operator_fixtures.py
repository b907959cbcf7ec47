"""Fixtures with a running operator, for e2e/conftest.py to import."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from harness.cluster import ApiServer
from harness.operator_process import OperatorProcess

__all__ = ["alone", "operator"]

_shared: list[OperatorProcess] = []
"""The one of this test run, where a test has asked for it."""


@pytest.fixture(scope="session")
def operator(api_server: ApiServer) -> Iterator[OperatorProcess]:
    """The operator of this test run, shared by its tests: each works in a namespace of its own."""
    with OperatorProcess(api_server) as started:
        _shared.append(started)
        yield started
        _shared.clear()


@contextmanager
def alone() -> Iterator[None]:
    """For tests with an operator of their own: the shared one is frozen meanwhile. Each of two that have no Lease in common writes the
    status as it sees it, and what the last one wrote stands."""
    with ExitStack() as frozen:
        for each in _shared:
            frozen.enter_context(each.frozen())
        yield
