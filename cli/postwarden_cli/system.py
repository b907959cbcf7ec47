"""The whole system in one process (and its workers): the operator on files, a real gRPC push, a sidecar.

`up` and `demo` run it. The two halves meet only over the stream, as in a cluster: here a unix socket with a one-off token.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from postwarden_operator.files.operator import FilesEvent, FilesOperator
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.settings import Handoff, LogFormat, Upstream
from postwarden_sidecar.supervisor.settings import ControlTarget, SidecarSettings
from postwarden_sidecar.supervisor.supervisor import Supervisor


@dataclass(frozen=True)
class SystemSettings:
    """What `up`'s flags say. None: the policy's word, or off."""

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
    log_stream: TextIO = field(default_factory=lambda: sys.stderr)
    on_records: Callable[[Sequence[Record]], None] | None = None
