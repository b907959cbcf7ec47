"""The limits of a policy, met or not by a client that finds this load."""

from __future__ import annotations

from postwarden_sidecar.engine.actions import Load
from postwarden_sidecar.rules.settings import Limits


def too_many(limits: Limits, load: Load) -> bool:
    """The client has more connections than one may have."""
    return 0 < limits.connections_per_client < load.client


def upstream_busy(limits: Limits, load: Load) -> bool:
    """As many as may wait for the MTA do so."""
    return 0 < limits.upstream <= load.upstream


def screening_busy(limits: Limits, load: Load) -> bool:
    """As many as may be screened are."""
    return 0 < limits.screening <= load.screening
