"""What only the supervisor knows of its sidecar, for metrics: rules, operator, MTA, block lists.

It is asked for when metrics are read, by whatever thread reads them; nothing of it is kept twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from postwarden_sidecar.rules.settings import Limits

LIMITS = ("connections_per_client", "screening", "upstream")
"""Those of Limits that are numbers of connections."""


@dataclass(frozen=True, slots=True)
class SidecarState:
    """limits: in force; None: no rules are. connected: to the operator; None: there is none. proved: the hand-off that clients get.
    zones: whether a DNS list's hits count, by its template (never with a key), of those that were looked at."""

    limits: Limits | None = None
    in_force: bool = False
    connected: bool | None = None
    proved: bool = False
    zones: Mapping[str, bool] = field(default_factory=dict)
