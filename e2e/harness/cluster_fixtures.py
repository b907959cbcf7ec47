"""Fixtures that give a test a real API server, for e2e/conftest.py to import.

Contract: one API server a test run, started when the first test asks for it. The binaries are built before
the first test runs, as a cold build takes longer than a test may, and with pytest's capture off, so that its
progress is seen.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from harness.cluster import ApiServer
from harness.compiled import search_path
from harness.older_release import older_release
from harness.one_node.parts import prepare
from harness.toolchain import KubernetesTools, kubernetes_tools

__all__ = ["api_server", "kubernetes_binaries", "namespace", "pytest_collection_finish"]

_namespace_numbers = count(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests need, where it is not in the cache."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    builds: tuple[tuple[str, Callable[[], object]], ...] = (
        ("", search_path),  # nearly all of them start sidecars
        ("kubernetes_binaries", kubernetes_tools),
        ("older_programs", older_release),
        ("one_node", prepare),
        ("real_cluster", prepare),
    )
    for fixture, build in builds:
        if fixture and fixture not in wanted:
            continue
        # The fixture says a failure again, as the outcome of the tests that need it.
        with (
            capture.global_and_fixture_disabled(),
            contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception),
        ):
            build()


@pytest.fixture(scope="session")
def kubernetes_binaries() -> KubernetesTools:
    """etcd, kube-apiserver, kubectl. Where they can't be had, tests are skipped, or fail if CI=true."""
    return kubernetes_tools()


@pytest.fixture(scope="session")
def api_server(kubernetes_binaries: KubernetesTools) -> Iterator[ApiServer]:
    """The API server of this test run, shared by its tests."""
    with ApiServer(kubernetes_binaries) as started:
        yield started


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """The name of a new namespace with its ServiceAccount `default`."""
    name = f"test-{next(_namespace_numbers)}"
    api_server.create_namespace(name)
    return name
