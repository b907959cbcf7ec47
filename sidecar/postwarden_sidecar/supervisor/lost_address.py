"""What the supervisor does where clients' addresses are lost on their way: tells workers, the operator and the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from postwarden_sidecar.controlclient.client import ControlClient
from postwarden_sidecar.engine.record import Recorded
from postwarden_sidecar.ipc.messages import Suspect
from postwarden_sidecar.supervisor.suspicion import Suspicion, gateways
from postwarden_sidecar.supervisor.workers import Workers

ROUTES = Path("/proc/net/route")

_log = logging.getLogger(__name__)


class LostAddress:
    """Sees all records."""

    def __init__(
        self, workers: Workers, node_ip: str | None, client: Callable[[], ControlClient | None]
    ) -> None:
        """node_ip: the node's address; None: not known. client: the operator's, if there is one."""
        try:
            nodes = gateways(ROUTES.read_text())
        except (OSError, ValueError):
            nodes = frozenset()
        self._suspicion = Suspicion(nodes if node_ip is None else nodes | {node_ip})
        self._workers = workers
        self._client = client

    def observe(self, records: Sequence[Recorded]) -> None:
        """Connections have ended."""
        suspicion = self._suspicion
        if not suspicion.observe(records, time.monotonic()):
            return
        self._workers.set_suspect(Suspect(suspicion.address))
        if suspicion.address:
            _log.warning(
                "clients' addresses seem to be lost: %s; no pass is stored for it, and no limit per client holds",
                suspicion.detail,
            )
        else:
            _log.info("clients' addresses are seen again")
        client = self._client()
        if client is not None:
            client.reports.tell_address(suspicion.address, suspicion.detail)
