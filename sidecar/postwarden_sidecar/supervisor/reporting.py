"""Telemetry as the settings ask for it."""

from __future__ import annotations

import os
import socket
from typing import BinaryIO

from postwarden.telemetry.resource import from_environment

from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.supervisor.settings import SidecarSettings
from postwarden_sidecar.telemetry.pipeline import Telemetry


def make_telemetry(settings: SidecarSettings, page: Page, log_stream: BinaryIO) -> Telemetry:
    """It runs at once. page: must outlive it."""
    return Telemetry(
        page=page,
        log_format=settings.log_format or "JSON",
        log_stream=log_stream,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        resource=from_environment(os.environ),
        otlp_endpoint=settings.otlp_endpoint,
    )
