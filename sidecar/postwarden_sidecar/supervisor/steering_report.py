"""What is told where the kernel does not steer clients to workers as it should: log, metric, operator."""

from __future__ import annotations

import logging
from collections.abc import Callable

from postwarden_sidecar.controlclient.client import ControlClient
from postwarden_sidecar.ipc.page import CELLS, STEERING_FAILED, SUPERVISOR, Page

_log = logging.getLogger(__name__)


class SteeringReport:
    """client: the operator's, if there is one."""

    def __init__(self, page: Page, client: Callable[[], ControlClient | None]) -> None:
        self._page = page
        self._client = client
        self._problem = ""

    def one_serves_all(self, workers: int) -> None:
        """At the start the kernel refused to steer to so many; `tell_again` once there is a client."""
        self._problem = f"the kernel steers no clients to {workers} workers: one serves all"
        _log.warning("%s", self._problem)
        self._page.slot(SUPERVISOR)[CELLS[STEERING_FAILED]] = 1

    def tell(self, problem: str) -> None:
        """See Shares' on_problem, which has logged it."""
        self._problem = problem
        self.tell_again()

    def tell_again(self) -> None:
        """The operator."""
        client = self._client()
        if client is not None:
            client.reports.tell_steering(self._problem)
