"""The pod's end: the MTA lives until the sidecar has drained.

Measured: regular containers get TERM first, the sidecar's preStop runs at the same moment, and the sidecar's TERM comes when they are
gone. So they wait in a preStop of their own, as long as the sidecar's drain may take, and the pod's grace period covers that.
"""

from typing import Any

from postwarden_operator.inject.annotations import Annotations, PreStop

RESERVE = 10
"""Seconds of the grace period beyond the drain: for the MTA to end its own deliveries, and for the sidecar's 2 s (design)."""


def drain_seconds(wanted: Annotations) -> int:
    """Of the whole drain, rounded up: a sleep has whole seconds."""
    return -(-(wanted.drain_delay + wanted.drain_timeout) // 1000)


def outlive_drain(spec: dict[str, Any], wanted: Annotations) -> None:
    """Every regular container, for the MTA needs its milters to the end; one that has a preStop knows better."""
    seconds = drain_seconds(wanted)
    if wanted.pre_stop is PreStop.SLEEP and seconds:
        for container in spec.get("containers") or ():
            lifecycle = container.get("lifecycle") or {}
            if not lifecycle.get("preStop"):
                container["lifecycle"] = {**lifecycle, "preStop": {"sleep": {"seconds": seconds}}}
    grace = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = max(30 if grace is None else grace, seconds + RESERVE)
