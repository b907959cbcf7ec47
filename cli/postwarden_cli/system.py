"""The whole system in one process (and its workers): the operator on files, a real gRPC push, a sidecar.

`up` and `demo` run it. The two halves meet only over the stream, as in a cluster: here a unix socket with a one-off token.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from postwarden_operator.files.operator import (
    Applied,
    Conflicted,
    FilesEvent,
    FilesOperator,
    NothingUsable,
    Problem,
)
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.settings import Handoff
from postwarden_sidecar.supervisor.settings import ControlTarget, SidecarSettings
from postwarden_sidecar.supervisor.supervisor import ListenFailed, Supervisor

log = logging.getLogger("postwarden")


class StartFailed(Exception):
    """The arguments or the first policy can't be used; the message says what, where, and what to do."""


@dataclass(frozen=True)
class SystemSettings:
    """What `up`'s flags say. None: the policy's word, or off. strict_relay: refuse to serve a `plain` MTA that would relay for us."""

    paths: Sequence[Path]
    listen: tuple[str, int]
    upstream: str | None = None
    handoff: Handoff | None = None
    state_dir: Path | None = None
    workers: int = 1
    log_format: str | None = None
    otlp_endpoint: str | None = None
    metrics: tuple[str, int] | None = None
    drain_delay: float = 0.0
    drain_timeout: float = 20.0
    strict_relay: bool = False
    log_stream: TextIO = field(default_factory=lambda: sys.stderr)
    on_records: Callable[[Sequence[Record]], None] | None = None
