"""From `kubectl apply` to the first client that is turned away: a real sidecar, real kubectl, the real API server.

Contract: `times` gives for each change the seconds from kubectl's start, and from its end, to the moment at
which a client that connected anew was answered by the new rules. Clients come one after the other, each within
a millisecond or so of the last, from 127.0.0.1. Beside it, how long kubectl itself took, and how long it took for an object that has
nothing to do with us: its start, and reading what the API server serves, are most of the whole.
"""

import json
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import ApiServer
from harness.mail_sink import MailSink
from harness.operator_process import OperatorProcess
from harness.screening_objects import config_map, mail_pod, policy, wait_for_reasons
from harness.sidecar_process import SidecarProcess

NAMESPACE = "enforced"

WARM = 3
"""Changes before those that count: the first kubectl that meets a new CRD waits a second for its schema."""

PATIENCE = 20.0
"""Seconds in which a change must be in force."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """Seconds from kubectl's start, and from its end; what kubectl took, and what it took for a ConfigMap just before."""

    since_start: float
    since_return: float
    kubectl: float
    something_else: float


class NotEnforced(Exception):
    """A change was not in force in time."""


def times(api_server: ApiServer, operator: OperatorProcess, changes: int) -> list[Enforced]:
    """Raises NotEnforced."""
    api_server.create_namespace(NAMESPACE)
    pod = mail_pod(api_server, NAMESPACE)
    api_server.apply(_wall(0))
    with tempfile.TemporaryDirectory() as folder, MailSink() as mta:
        sidecar = SidecarProcess(
            Path(folder), upstream=mta.address, operator=operator, token=api_server.bound_token(pod)
        )
        with sidecar:
            wait_for_reasons(api_server, "wall", NAMESPACE, Programmed="True/Synced")
            measured = [
                _change(api_server, sidecar.listen, number) for number in range(1, WARM + changes + 1)
            ]
            return measured[WARM:]


def _wall(number: int) -> str:
    """Rejects us at once if the number is odd; the footer shows which rules answered."""
    rules = [{"action": "Reject", "cidrs": ["127.0.0.0/8"]}]
    access = {"myNetworks": [], "rejectAction": "Drop", "rules": rules}
    return json.dumps(policy("wall", NAMESPACE, access=access, session={"rejectFooter": f"change {number};"}))


def _change(api_server: ApiServer, listen: tuple[str, int], number: int) -> Enforced:
    asked = time.monotonic()
    api_server.apply(config_map("something-else", NAMESPACE, f"# {number}\n", watched=False))
    began = time.monotonic()
    something_else = began - asked
    api_server.apply(_wall(number))
    returned = time.monotonic()
    wanted = f"change {number};".encode()
    while True:
        asked = time.monotonic()
        with socket.create_connection(listen, timeout=PATIENCE) as client:
            reply = client.recv(4096)
        if wanted in reply:
            since_return = max(0.0, asked - returned)
            return Enforced(asked - began, since_return, returned - began, something_else)
        if asked - returned > PATIENCE:
            raise NotEnforced(f"{PATIENCE:.0f} s after kubectl returned a client was answered {reply!r}")
