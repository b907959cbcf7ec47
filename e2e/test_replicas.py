"""Two replicas of the operator: one writes status, of the sidecars of both; the other takes over when it is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from harness.cluster import ApiServer, Pod
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.operator_process import ACCOUNT, NAMESPACE, OperatorProcess
from harness.polling import poll
from harness.replica_fixtures import LEASE_DURATION, PEERS_AUDIENCE, Replicas, identity, told_by
from harness.screening_objects import mail_pod, policy, policy_object, reject, wait_for_reasons
from harness.service import Service
from harness.sidecar_fixtures import StartSidecar
from harness.status_follower import Statuses
from harness.stream_client import StreamClient
from postwarden.screening.v1 import screening_pb2 as pb

TAKEN_OVER_WITHIN = LEASE_DURATION + 2.0
"""Seconds from the leader's death to the next one's first status: the Lease's duration, a look, and a busy machine's slowness."""

FORGOTTEN_WITHIN = 2 * LEASE_DURATION + 4.0
"""Seconds from a replica's death until those of its sidecars that found no other count as disconnected."""


@dataclass
class Fleet:
    """Sidecars that acknowledge by hand, by pod."""

    api_server: ApiServer
    running: ExitStack
    tokens: dict[str, str] = field(default_factory=dict)

    def join(self, pod: Pod, operator: OperatorProcess, hello: pb.Hello | None = None) -> StreamClient:
        token = self.tokens.setdefault(pod.uid, self.api_server.bound_token(pod))
        client = StreamClient(operator.address, operator.ca_pem, token, hello=hello)
        return self.running.enter_context(client)


@pytest.fixture
def fleet(api_server: ApiServer) -> Iterator[Fleet]:
    with ExitStack() as running:
        yield Fleet(api_server, running)


def offered(client: StreamClient) -> pb.Snapshot:
    """The next snapshot; before it a replica may say that it has heard of no policy yet."""
    while (message := client.receive()).WhichOneof("message") == "unmanaged":
        pass
    assert message.WhichOneof("message") == "snapshot", message
    return message.snapshot


def applied(client: StreamClient) -> pb.Snapshot:
    """The same, acknowledged."""
    snapshot = offered(client)
    client.ack(snapshot)
    return snapshot


def has(snapshot: pb.Snapshot) -> pb.Hello:
    """What a sidecar that has these rules says of itself."""
    return pb.Hello(
        sidecar_version="e2e", revision=snapshot.revision, version=snapshot.version, complete=True
    )


def counts(api_server: ApiServer, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = policy_object(api_server, name, namespace).get("status", {}).get("sidecars", {})
    return found


def test_status_is_that_of_all_replicas_and_outlives_the_leader(
    api_server: ApiServer, namespace: str, replicas: Replicas, fleet: Fleet
) -> None:
    leader = replicas.leader()
    follower = replicas.other(leader)
    api_server.apply(policy("wall", namespace, access=reject("192.0.2.0/24")))
    pods = [mail_pod(api_server, namespace, f"mta-{number}") for number in range(3)]
    theirs, others, more = (
        fleet.join(pod, each) for pod, each in zip(pods, (leader, follower, follower), strict=True)
    )
    had = applied(theirs)
    applied(others)
    unanswered = offered(more)
    expected = {"matched": 3, "synced": 2, "pending": 1, "rejected": 0, "disconnected": 0, "summary": "2/3"}
    poll(
        lambda: counts(api_server, "wall", namespace) == expected,
        10.0,
        lambda: f"{counts(api_server, 'wall', namespace)}",
    )
    more.ack(unanswered)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    with Statuses(api_server, "wall", namespace) as statuses:
        leader.process.kill()
        # As a sidecar does: its rules stay, and it finds the other replica.
        fleet.join(pods[0], follower, has(had))
        poll(
            lambda: replicas.spec()["holderIdentity"] == identity(follower),
            TAKEN_OVER_WITHIN,
            lambda: follower.log(),
        )
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        # A status that is new, and the new leader's.
        api_server.apply(policy("wall", namespace, access=reject("198.51.100.0/24")))
        statuses.wait_for(("False/Pending", "0/3"), 10.0)
    before = statuses.seen[: statuses.seen.index(("False/Pending", "0/3"))]
    assert set(before) <= {("True/Synced", "3/3"), ("Unknown/LeaderChanged", "3/3")}, statuses.seen

    # A replica that comes has its share of the status at once.
    leader.start()
    newest = fleet.join(mail_pod(api_server, namespace, "mta-3"), leader)
    applied(newest)
    poll(
        lambda: counts(api_server, "wall", namespace).get("summary") == "1/4",
        10.0,
        lambda: f"{counts(api_server, 'wall', namespace)}\n{follower.log()}",
    )
    assert replicas.leader() is follower


@dataclass(frozen=True)
class Fronted:
    """What a sidecar needs to know of the operator: the Service's address, and who signs."""

    address: str
    ca_pem: bytes


def test_mail_flows_and_no_sidecar_is_lost_when_the_leader_is_killed(
    api_server: ApiServer, namespace: str, replicas: Replicas, start_sidecar: StartSidecar
) -> None:
    leader = replicas.leader()
    follower = replicas.other(leader)
    access = {"myNetworks": [], "rejectAction": "Drop", **reject("127.66.0.0/16")}
    api_server.apply(policy("wall", namespace, access=access, pregreet={"banner": ""}))
    with Service([leader.port]) as first, Service([leader.port, follower.port]) as service:
        # One is connected to the leader for certain, and finds only the other afterwards.
        by_leader = start_sidecar("mta-0", operator=Fronted(first.address, leader.ca_pem))
        by_any = start_sidecar("mta-1", operator=Fronted(service.address, leader.ca_pem))
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        first.backends = [follower.port]
        with Statuses(api_server, "wall", namespace) as statuses:
            leader.process.kill()
            replies: list[str] = []
            while replicas.spec()["holderIdentity"] != identity(follower):
                for sidecar in (by_leader, by_any):
                    assert first_reply(sidecar.address, "127.66.6.6").startswith("521")
                    replies.append(last_reply_to_mail(sidecar.address, "127.0.9.9"))
            statuses.wait_for(("True/Synced", "2/2"), 5.0)
        assert {reply[:9] for reply in replies} == {"250 2.0.0"}
        assert {summary for _, summary in statuses.seen} == {"2/2"}
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        # What the new leader counts is what these two have: a new revision tells.
        access = {"myNetworks": [], "rejectAction": "Drop", **reject("127.77.0.0/16")}
        api_server.apply(policy("wall", namespace, access=access, pregreet={"banner": ""}))
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
        for sidecar in (by_leader, by_any):
            assert first_reply(sidecar.address, "127.77.7.7").startswith("521")


def test_leader_that_was_frozen_learns_that_it_leads_no_more_and_overwrites_nobody(
    api_server: ApiServer, namespace: str, replicas: Replicas, fleet: Fleet
) -> None:
    frozen = replicas.leader()
    other = replicas.other(frozen)
    api_server.apply(policy("wall", namespace))
    sidecar = fleet.join(mail_pod(api_server, namespace), other)
    applied(sidecar)
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        poll(
            lambda: replicas.spec()["holderIdentity"] == identity(other),
            TAKEN_OVER_WITHIN,
            lambda: other.log(),
        )
        api_server.apply(policy("wall", namespace, mode="Observe"))
        applied(sidecar)
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    with Statuses(api_server, "wall", namespace) as statuses:
        poll(
            lambda: f"{identity(frozen)} is no longer the status writer" in frozen.whole_log(),
            5.0,
            lambda: frozen.log(),
        )
        # What it is sent now it counts for itself only.
        api_server.apply(policy("wall", namespace, mode="Enforce"))
        snapshot = offered(sidecar)
        statuses.wait_for(("False/Pending", "0/1"), 5.0)
        sidecar.ack(snapshot)
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    assert set(statuses.seen) == {("True/Synced", "1/1"), ("False/Pending", "0/1")}
    assert replicas.leader() is other


def test_sidecars_of_a_replica_that_is_gone_are_disconnected_when_they_find_no_other(
    api_server: ApiServer, namespace: str, replicas: Replicas, fleet: Fleet
) -> None:
    leader = replicas.leader()
    follower = replicas.other(leader)
    api_server.apply(policy("wall", namespace))
    pods = [mail_pod(api_server, namespace, f"mta-{number}") for number in range(2)]
    applied(fleet.join(pods[0], leader))
    applied(fleet.join(pods[1], follower))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    with Statuses(api_server, "wall", namespace) as statuses:
        follower.process.kill()
        statuses.wait_for(("False/Pending", "1/2"), FORGOTTEN_WITHIN)
    assert counts(api_server, "wall", namespace)["disconnected"] == 1
    assert statuses.seen == [("True/Synced", "2/2"), ("False/Pending", "1/2")]


def test_leader_that_is_told_to_stop_gives_the_lease_away(
    api_server: ApiServer, namespace: str, replicas: Replicas, fleet: Fleet
) -> None:
    leader = replicas.leader()
    follower = replicas.other(leader)
    transitions = replicas.spec()["leaseTransitions"]
    api_server.apply(policy("wall", namespace))
    applied(fleet.join(mail_pod(api_server, namespace), follower))
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    with Statuses(api_server, "wall", namespace) as statuses:
        leader.stop()
        # Not after the Lease's duration, but at the next look.
        poll(
            lambda: replicas.spec()["holderIdentity"] == identity(follower),
            LEASE_DURATION - 0.5,
            lambda: follower.log(),
        )
        wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")
    assert statuses.seen == [("True/Synced", "1/1")]
    assert replicas.spec()["leaseDurationSeconds"] == LEASE_DURATION
    assert replicas.spec()["leaseTransitions"] == transitions + 1


def test_view_of_a_replica_is_for_the_operators_own_account_only(
    api_server: ApiServer, namespace: str, replicas: Replicas, fleet: Fleet
) -> None:
    operator = replicas.operators[1]
    pod = mail_pod(api_server, namespace)
    api_server.apply(policy("wall", namespace))
    applied(fleet.join(pod, operator))
    refused = grpc.StatusCode.PERMISSION_DENIED
    assert told_by(operator, None) is refused
    assert told_by(operator, "nonsense") is refused
    assert told_by(operator, api_server.bound_token(pod)) is refused
    assert told_by(operator, api_server.bound_token(pod, PEERS_AUDIENCE)) is refused
    assert told_by(operator, api_server.unbound_token(ACCOUNT, NAMESPACE)) is refused
    updates = told_by(operator, api_server.unbound_token(ACCOUNT, NAMESPACE, PEERS_AUDIENCE))
    assert isinstance(updates, list)
    assert updates[0].replica
    assert pod.uid in {state.pod_uid for update in updates for state in update.changed}
