"""Policies that want the same pods, and policies that break while they are in force: decided pod by pod, and never by somebody's typo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from harness.cluster import ApiServer
from harness.operator_process import OperatorProcess
from harness.polling import poll
from harness.screening_objects import (
    conditions,
    config_map,
    mail_pod,
    policy,
    policy_object,
    reject,
    reject_listed,
    wait_for_reasons,
)
from harness.stream_client import StreamClient
from postwarden.screening.v1 import screening_pb2 as pb

NEXT_SECOND = 1.1
"""Seconds: creationTimestamp has whole ones."""

QUIET = 0.5
"""Seconds in which nothing more comes: a reconcile begins 50 ms after a change."""


class Sidecars:
    """Those of a namespace's pods, by name; each acknowledges what it gets."""

    def __init__(
        self, api_server: ApiServer, operator: OperatorProcess, namespace: str, running: ExitStack
    ) -> None:
        self._api_server, self._operator = api_server, operator
        self._namespace, self._running = namespace, running
        self._clients: dict[str, StreamClient] = {}

    def add(self, name: str, **labels: str) -> None:
        token = self._api_server.bound_token(mail_pod(self._api_server, self._namespace, name, **labels))
        client = StreamClient(self._operator.address, self._operator.ca_pem, token)
        self._clients[name] = self._running.enter_context(client)

    def gets(self, name: str) -> str:
        """The next message: the name of a policy whose rules are in force now, "hold" or "unmanaged"."""
        message = self._clients[name].receive()
        match message.WhichOneof("message"):
            case "snapshot":
                self._clients[name].ack(message.snapshot)
                return message.snapshot.name
            case "unmanaged":
                ack = pb.Ack(nonce=message.unmanaged.nonce)
                self._clients[name].send(pb.SidecarMessage(ack=ack))
                return "unmanaged"
            case other:
                return str(other)

    def waits_for(self, name: str, *last: str) -> None:
        """Messages up to those, in this order: what was said before the operator heard of everything does not matter."""
        got: list[str] = []
        while got[-len(last) :] != list(last):
            got.append(self.gets(name))  # raises if nothing more comes

    def gets_nothing(self, name: str) -> None:
        with pytest.raises(AssertionError, match="nothing from the operator"):
            self._clients[name].receive(QUIET)


@pytest.fixture
def sidecars(api_server: ApiServer, operator: OperatorProcess, namespace: str) -> Iterator[Sidecars]:
    with ExitStack() as running:
        yield Sidecars(api_server, operator, namespace, running)


def counted(api_server: ApiServer, name: str, namespace: str, summary: str) -> None:
    def says() -> str:
        return str(policy_object(api_server, name, namespace).get("status", {}).get("sidecars", {}))

    poll(lambda: f"'summary': '{summary}'" in says(), 10.0, says)


def test_conflict_is_decided_pod_by_pod_and_the_loser_says_to_whom(
    api_server: ApiServer, namespace: str, sidecars: Sidecars
) -> None:
    for number in range(2):
        sidecars.add(f"in-{number}", tier="in")
    sidecars.add("out-0", tier="out")
    api_server.apply(policy("older", namespace, selector={"matchLabels": {"tier": "in"}}))
    time.sleep(NEXT_SECOND)
    api_server.apply(policy("a-younger", namespace))
    for pod, winner in (("in-0", "older"), ("in-1", "older"), ("out-0", "a-younger")):
        sidecars.waits_for(pod, winner)
    wait_for_reasons(api_server, "older", namespace, Accepted="True/Valid", Programmed="True/Synced")
    wait_for_reasons(
        api_server, "a-younger", namespace, Accepted="True/PartlyConflicted", Programmed="True/Synced"
    )
    assert (
        f"{namespace}/older (2 pods)" in conditions(api_server, "a-younger", namespace)["Accepted"]["message"]
    )
    counted(api_server, "older", namespace, "2/2")
    counted(api_server, "a-younger", namespace, "1/1")

    # A typo of the older one hands nothing over: its pods keep what they have.
    typo = policy("older", namespace, selector={"matchLabels": {"tier": "in"}}, access=reject("10.0.0.1/8"))
    api_server.apply(typo)
    sidecars.waits_for("in-0", "hold")
    wait_for_reasons(api_server, "older", namespace, Accepted="False/Invalid", Programmed="False/Pending")
    sidecars.gets_nothing("out-0")
    wait_for_reasons(api_server, "a-younger", namespace, Accepted="True/PartlyConflicted")

    # A label that changes moves a pod, and it alone.
    api_server.kubectl("label", "pod", "in-1", "tier=out", "--overwrite", f"--namespace={namespace}")
    sidecars.waits_for("in-1", "a-younger")
    counted(api_server, "a-younger", namespace, "2/2")
    sidecars.gets_nothing("in-0")

    api_server.kubectl("delete", "spol", "older", f"--namespace={namespace}")
    sidecars.waits_for("in-0", "a-younger")
    wait_for_reasons(api_server, "a-younger", namespace, Accepted="True/Valid", Programmed="True/Synced")
    counted(api_server, "a-younger", namespace, "3/3")


def test_policy_that_loses_every_pod_is_conflicted_and_screens_nobody(
    api_server: ApiServer, namespace: str, sidecars: Sidecars
) -> None:
    sidecars.add("mta-0")
    api_server.apply(policy("older", namespace))
    time.sleep(NEXT_SECOND)
    api_server.apply(policy("a-younger", namespace, mode="Observe"))
    sidecars.waits_for("mta-0", "older")
    wait_for_reasons(
        api_server, "a-younger", namespace, Accepted="False/Conflicted", Programmed="False/NoSidecars"
    )
    assert (
        f"{namespace}/older (1 pod)" in conditions(api_server, "a-younger", namespace)["Accepted"]["message"]
    )


def test_list_that_goes_away_or_bad_holds_what_is_in_force_also_for_a_fresh_sidecar(
    api_server: ApiServer, namespace: str, sidecars: Sidecars
) -> None:
    api_server.apply(config_map("zombies", namespace, "192.0.2.0/24\n"))
    api_server.apply(policy("wall", namespace, access=reject_listed("zombies")))
    sidecars.add("mta-0")
    sidecars.waits_for("mta-0", "wall")
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="True/Resolved", Programmed="True/Synced")

    api_server.apply(config_map("zombies", namespace, "192.0.2.0/24\n# fine\n192.0.2.300\nnonsense\n"))
    wait_for_reasons(
        api_server,
        "wall",
        namespace,
        Accepted="True/Valid",
        ResolvedRefs="False/BadList",
        Programmed="False/Pending",
    )
    message = conditions(api_server, "wall", namespace)["ResolvedRefs"]["message"]
    assert "line 3" in message
    assert "line 4" in message
    assert sidecars.gets("mta-0") == "hold"

    api_server.kubectl("delete", "configmap", "zombies", f"--namespace={namespace}")
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotFound")
    assert sidecars.gets("mta-0") == "hold"
    sidecars.add("mta-1")
    assert sidecars.gets("mta-1") == "hold"

    # As it was: what is in force there is not sent again.
    api_server.apply(config_map("zombies", namespace, "192.0.2.0/24\n"))
    sidecars.waits_for("mta-1", "wall")
    sidecars.gets_nothing("mta-0")
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="True/Resolved", Programmed="True/Synced")
