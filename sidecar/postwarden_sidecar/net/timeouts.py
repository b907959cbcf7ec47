"""The driver's own time limits. Those of screening are the engine's."""

from __future__ import annotations

from dataclasses import dataclass, field

from postwarden_sidecar.handoff.replay import ReplayLimits


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds. Tests give shorter ones."""

    connect_unix: float = 1.0  # design
    connect_tcp: float = 5.0  # design
    greeting: float = 30.0  # from connected to the MTA's whole greeting; design
    replay: ReplayLimits = field(default_factory=ReplayLimits)
    relay_idle: float = 3600.0  # neither direction has moved a byte; design
    # the MTA has ended and the client neither says nor ends anything; Linux's own tcp_fin_timeout
    half_closed: float = 60.0
    pass_control: float = 100.0  # smtpd closes the control socket by then; postscreen's limit
    flush: float = 10.0  # a closing connection's last reply may wait so long for a client that does not read
    accept_pause: float = 0.1  # after the kernel had no descriptor or memory for a client
