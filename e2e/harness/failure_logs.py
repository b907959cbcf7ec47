"""What our own processes said, beside the report of a test that failed: an end-to-end failure seldom comes twice.

Contract: `pytest_runtest_makereport` adds a section for each operator and sidecar that was running when the test failed.
Not the cluster's own programs: they say too much, and are seldom the cause.
"""

from collections.abc import Generator

import pytest

from harness.cluster_process import LoggedProcess

OURS = "postwarden"
"""How the names of our programs begin."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        ours = [each for each in LoggedProcess.running() if each.name.startswith(OURS)]
        report.sections.extend((f"{each.name}, pid {each.pid}", each.tail()) for each in ours)
    return report
