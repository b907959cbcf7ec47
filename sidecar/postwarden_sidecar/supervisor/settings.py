"""What a sidecar is started with. The command line (or `postwarden up`) fills it in; nothing here is read
from the environment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from postwarden_sidecar.controlclient.target import ControlTarget as ControlTarget
from postwarden_sidecar.ipc.page import MAX_WORKERS
from postwarden_sidecar.net.addresses import is_loopback
from postwarden_sidecar.rules.settings import Handoff

LogFormatName = Literal["JSON", "Postscreen", "PostscreenLegacy", "pretty"]


class WithoutRules(enum.StrEnum):
    """What clients get while no policy is known."""

    PASS = "Pass"  # noqa: S105  (no password)
    DEFER = "Defer"


@dataclass(frozen=True, slots=True)
class UpstreamChoice:
    """What one source says of the MTA; None: nothing. target: as rules.settings.Upstream has it."""

    target: str | None = None
    handoff: Handoff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """Durations are seconds.

    listen: port 0 takes a free one. flags: of the command line, above the policy; bootstrap: below it and
    below the last known good. control: None: no operator, clients are treated as without_rules says.
    state_dir: None: nothing is kept over a restart, and no `drain` command reaches the sidecar. resolver: for DNS block lists; None: the
    policy's, else the machine's own. log_format: None is the policy's.
    admin: on loopback; None: nobody is answered. strict_relay: an MTA that would relay for the world is not used; else it is warned
    of once. try_unproved: while the MTA is down or silent each client is tried all the same (`up`). pod_ip:
    the address on which the MTA's port must not answer in the PROXY modes; None: not checked. node_ip: of the pod's node, from which no
    client comes that has not lost its own address; None: not known. proxy_trusted: networks, none within another, of load balancers
    whose PROXY header is believed while no policy is known. redirected_ports: of the pod; whoever asks for one from outside comes to us,
    so that the MTA does not answer there.
    """

    listen: tuple[str, int]
    flags: UpstreamChoice = UpstreamChoice()
    bootstrap: UpstreamChoice = UpstreamChoice()
    control: ControlTarget | None = None
    state_dir: Path | None = None
    workers: int = 1
    resolver: tuple[str, int] | None = None
    log_format: LogFormatName | None = None
    otlp_endpoint: str | None = None
    metrics: tuple[str, int] | None = None
    health: tuple[str, int] | None = None
    admin: tuple[str, int] | None = None
    without_rules: WithoutRules = WithoutRules.PASS
    proxy_trusted: tuple[str, ...] = ()
    drain_delay: float = 0.0
    drain_timeout: float = 20.0
    strict_relay: bool = True
    try_unproved: bool = False
    pod_ip: str | None = None
    node_ip: str | None = None
    redirected_ports: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raises ValueError for a number of workers that can't be, and for an admin endpoint that others could reach."""
        if self.admin is not None and not is_loopback(self.admin[0]):
            raise ValueError(f"the admin endpoint answers on loopback only, not on {self.admin[0]}")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"{self.workers} workers: there may be 1 to {MAX_WORKERS}")
