"""How sidecars come to share out among replicas: each makes a new stream once in a while, to whichever the Service gives it.

The real client of sidecars, many times in this process, with streams that live for seconds in place of half an hour.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from harness.cluster import ApiServer, Pod
from harness.operator_process import ACCOUNT, NAMESPACE, OperatorProcess
from harness.polling import poll
from harness.replica_fixtures import PEERS_AUDIENCE, Replicas, told_by
from harness.screening_objects import mail_pod, policy, wait_for_reasons
from harness.service import Service
from harness.status_follower import Statuses
from postwarden_sidecar.controlclient.client import STREAM_LIFE_SPREAD, ControlClient
from postwarden_sidecar.controlclient.target import ControlTarget
from postwarden_sidecar.rules.intervals import Buffer
from postwarden_sidecar.rules.settings import PolicyRef, Rules

SIDECARS = 40

STREAM_LIFE = 4.0
"""Seconds."""

LEAST_SHARE = 10
"""Of SIDECARS that choose one of two replicas by the toss of a coin: fewer come once in 3,000 times."""


class Applies:
    """A sidecar that has in force at once whatever comes."""

    def __init__(self) -> None:
        self.in_force: PolicyRef | None = None
        self.complete = True
        self.tables: dict[str, Buffer] = {}

    async def apply(self, rules: Rules) -> None:
        self.in_force = rules.policy

    async def unmanaged(self) -> None:
        self.in_force = None

    async def hold(self, reason: str) -> None:
        """Nothing to do."""

    def trust(self, pem: bytes) -> None:
        """Nothing to do."""


@contextmanager
def sidecars(tokens: list[str], address: str, ca_pem: bytes) -> Iterator[list[ControlClient]]:
    """Their clients run in a thread of their own."""
    loop = asyncio.new_event_loop()
    clients: list[ControlClient] = []

    async def run() -> None:
        for token in tokens:
            target = ControlTarget(address=address, token=token, ca_pem=ca_pem)
            clients.append(ControlClient(target, Applies(), stream_life=STREAM_LIFE))
        await asyncio.gather(*(client.run() for client in clients))

    def serve() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(running)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    running = loop.create_task(run())
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield clients
    finally:
        loop.call_soon_threadsafe(running.cancel)
        thread.join()


def streams(api_server: ApiServer, operator: OperatorProcess) -> int:
    """How many sidecars are connected to it."""
    updates = told_by(operator, api_server.unbound_token(ACCOUNT, NAMESPACE, PEERS_AUDIENCE))
    assert isinstance(updates, list)
    return len({state.pod_uid for update in updates for state in update.changed})


def test_replica_that_starts_gets_its_share_and_no_sidecar_counts_as_away_meanwhile(
    api_server: ApiServer, namespace: str, replicas: Replicas
) -> None:
    api_server.apply(policy("wall", namespace))
    with ThreadPoolExecutor(8) as many:
        pods: list[Pod] = list(
            many.map(lambda number: mail_pod(api_server, namespace, f"mta-{number}"), range(SIDECARS))
        )
        tokens = list(many.map(api_server.bound_token, pods))
    leader = replicas.leader()
    newcomer = replicas.other(leader)
    with (
        Service([leader.port]) as service,
        sidecars(tokens, service.address, leader.ca_pem),
    ):
        poll(lambda: streams(api_server, leader) == SIDECARS, 20.0, lambda: leader.log())
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        with Statuses(api_server, "wall", namespace) as statuses:
            service.backends = [leader.port, newcomer.port]
            poll(
                lambda: streams(api_server, newcomer) >= LEAST_SHARE,
                STREAM_LIFE * (1 + STREAM_LIFE_SPREAD) + 2.0,
                lambda: f"{service.counts}: {newcomer.log()}",
            )
            poll(
                lambda: streams(api_server, newcomer) + streams(api_server, leader) == SIDECARS,
                5.0,
                lambda: f"{streams(api_server, newcomer)} and {streams(api_server, leader)}",
            )
    assert statuses.seen == [("True/Synced", f"{SIDECARS}/{SIDECARS}")]
