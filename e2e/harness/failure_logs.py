"""What our own programs said, beside the report of a test that failed: an end-to-end failure seldom comes twice.

Contract: `pytest_runtest_makereport` adds to the traceback the end of the log of each operator and sidecar that was running when the test
failed, so that it is shown for a first try, too. Not the cluster's own programs: they say too much, and are seldom the cause.
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
    add_section = getattr(report.longrepr, "addsection", None)  # a traceback has it; a skip's reason has not
    if report.failed and call.when == "call" and add_section is not None:
        for each in LoggedProcess.running():
            if each.name.startswith(OURS):
                add_section(f"{each.name}, pid {each.pid}", each.tail())
    return report
