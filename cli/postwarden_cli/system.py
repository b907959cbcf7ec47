"""The whole system in one process (and its workers): the operator on files, a real gRPC push, a sidecar.

`up` and `demo` run it. The two halves meet only over the stream, as in a cluster: here a unix socket with a one-off token. What is
told to `report` (stdout) are the lines that programs wait for; all else goes to the log (stderr).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from postwarden_operator.files.examine import examine
from postwarden_operator.files.operator import Conflicted, FilesEvent, FilesOperator, NothingUsable, Problem
from postwarden_operator.telemetry.service import TelemetrySettings
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.net.addresses import host_port
from postwarden_sidecar.rules.settings import Handoff, PolicyRef
from postwarden_sidecar.supervisor.settings import (
    ControlTarget,
    LogFormatName,
    SidecarSettings,
    UpstreamChoice,
)
from postwarden_sidecar.supervisor.supervisor import StartFailed as SidecarStartFailed
from postwarden_sidecar.supervisor.supervisor import Supervisor

log = logging.getLogger("postwarden")


class StartFailed(Exception):
    """The arguments or the first policy can't be used; the message says what, where, and what to do."""


@dataclass(frozen=True)
class SystemSettings:
    """What `up`'s flags say. None: the policy's word, or off. strict_relay: refuse to use a `plain` MTA that would relay for us."""

    paths: Sequence[Path]
    listen: tuple[str, int]
    upstream: str | None = None
    handoff: Handoff | None = None
    state_dir: Path | None = None
    workers: int = 1
    resolver: tuple[str, int] | None = None
    log_format: LogFormatName | None = None
    otlp_endpoint: str | None = None
    metrics: tuple[str, int] | None = None
    admin: tuple[str, int] | None = None
    drain_delay: float = 0.0  # seconds
    drain_timeout: float = 20.0  # seconds
    strict_relay: bool = False
    log_stream: BinaryIO = field(default_factory=lambda: sys.stderr.buffer)
    on_records: Callable[[Sequence[Record]], None] | None = None


class System:
    """`start`, then `drain` and `stop`, within one event loop."""

    def __init__(self, settings: SystemSettings, *, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        self._operator = FilesOperator(
            settings.paths,
            report=self._on_files_event,
            telemetry=TelemetrySettings(otlp_endpoint=settings.otlp_endpoint),
        )
        self._supervisor: Supervisor | None = None
        self._ready = False

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where clients connect, once started."""
        assert self._supervisor is not None
        return self._supervisor.listen_address

    async def start(self) -> None:
        """Until the policy is in force and the port accepts. Raises StartFailed, with nothing left running."""
        try:
            self._check_upstream()
            served = await self._operator.start()
            self._supervisor = Supervisor(
                self._sidecar_settings(ControlTarget(address=served.address, token=served.token)),
                log_stream=self._settings.log_stream,
                on_records=self._settings.on_records,
                on_applied=self._on_applied,
            )
            await self._supervisor.start()
            await self._supervisor.wait_ready()
        except NothingUsable as unusable:
            await self.stop()
            raise StartFailed("\n".join(unusable.errors)) from unusable
        except SidecarStartFailed as failure:
            await self.stop()
            raise StartFailed(str(failure)) from failure
        policy = self._supervisor.policy
        assert policy is not None  # the first policy compiles, and the operator runs in this very process
        self._ready = True
        where = host_port(*self.listen_address)
        self._report(f"ready listen={where} policy={policy.namespace}/{policy.name} version={policy.version}")

    async def drain(self) -> None:
        """Turn new clients away, let sessions with the MTA end."""
        if self._supervisor is not None:
            await self._supervisor.drain()

    async def stop(self) -> None:
        """End all at once; safe to call at any time, also twice."""
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._operator.stop()

    def _check_upstream(self) -> None:
        """The MTA and the hand-off must be known from the flags or from the policy. Raises StartFailed, NothingUsable."""
        policy = examine(self._settings.paths)[0]
        if policy.snapshot is None:
            raise NothingUsable(policy.errors)
        given = policy.snapshot.rules.HasField("upstream")
        name = f"{policy.namespace}/{policy.name}"
        if self._settings.upstream is None and not given:
            raise StartFailed(f"which MTA? Give --upstream, or spec.upstream in {name}")
        if self._settings.handoff is None and not given:
            raise StartFailed(
                f"how are clients given to the MTA? Give --handoff, or spec.upstream.handoff in {name}"
            )
        target = self._settings.upstream
        if self._settings.handoff is Handoff.PASS and target is not None and not target.startswith("unix:"):
            raise StartFailed(f"--handoff pass needs a unix socket: --upstream unix:PATH, not {target}")

    def _sidecar_settings(self, control: ControlTarget) -> SidecarSettings:
        settings = self._settings
        return SidecarSettings(
            listen=settings.listen,
            flags=UpstreamChoice(settings.upstream, settings.handoff),
            control=control,
            state_dir=settings.state_dir,
            workers=settings.workers,
            resolver=settings.resolver,
            log_format=settings.log_format,
            otlp_endpoint=settings.otlp_endpoint,
            metrics=settings.metrics,
            admin=settings.admin,
            drain_delay=settings.drain_delay,
            drain_timeout=settings.drain_timeout,
            strict_relay=settings.strict_relay,
            try_unproved=True,
        )

    def _on_applied(self, policy: PolicyRef | None) -> None:
        if self._ready and policy is not None:
            self._report(f"applied policy={policy.namespace}/{policy.name} version={policy.version}")

    def _on_files_event(self, event: FilesEvent) -> None:
        if isinstance(event, Problem):
            log.error("%s", event.text)
        elif isinstance(event, Conflicted):
            log.warning(
                "%s/%s is Conflicted: %s comes first and is in force",
                event.namespace,
                event.name,
                event.winner,
            )
