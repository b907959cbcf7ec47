"""Telemetry as the settings ask for it, and what it tells of the sidecar's parts."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import BinaryIO

from postwarden.telemetry.resource import from_environment

from postwarden_sidecar.controlclient.client import ControlClient
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.supervisor.applied_rules import AppliedRules
from postwarden_sidecar.supervisor.dnsbl_health import DnsblHealth
from postwarden_sidecar.supervisor.settings import SidecarSettings
from postwarden_sidecar.supervisor.upstreams import Upstreams
from postwarden_sidecar.telemetry.pipeline import Telemetry
from postwarden_sidecar.telemetry.sidecar_state import SidecarState

# Seconds that a thread may run Python before another one that waits has its turn; Python's own is 5 ms. Telemetry's threads are busy for
# tens of milliseconds when a batch is sent, and a worker waits 5 ms for what is known of a client's passes: those of one in a hundred
# clients came too late.
SWITCH_INTERVAL = 0.0005


def make_telemetry(
    settings: SidecarSettings, page: Page, log_stream: BinaryIO, state: Callable[[], SidecarState]
) -> Telemetry:
    """It runs at once. page: must outlive it. Changes how threads of this process take turns."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return Telemetry(
        page=page,
        log_format=settings.log_format or "JSON",
        log_stream=log_stream,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        state=state,
        resource=from_environment(os.environ),
        otlp_endpoint=settings.otlp_endpoint,
    )


def state_of(
    rules: AppliedRules | None,
    upstreams: Upstreams | None,
    client: ControlClient | None,
    dnsbl: DnsblHealth | None,
) -> SidecarState:
    """Called by any thread: it only reads. None: not there yet, or not at all (client)."""
    in_force = None if rules is None else rules.rules
    return SidecarState(
        limits=None if in_force is None else in_force.limits,
        in_force=in_force is not None,
        connected=None if client is None else client.connected,
        proved=upstreams is not None and upstreams.in_force is not None,
        zones={} if dnsbl is None else dnsbl.usable,
    )
