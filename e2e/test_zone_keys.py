"""Keys of DNSBL zones in a real cluster: who may have them read, where they go, and where they never show."""

import base64
import json
from collections.abc import Iterator

import pytest
from harness.cluster import ApiServer
from harness.operator_process import ACCOUNT, NAMESPACE, OperatorProcess
from harness.screening_objects import (
    asks_keyed_zone,
    conditions,
    mail_pod,
    may_read_secrets,
    policy,
    policy_object,
    wait_for_reasons,
    zone_key,
)
from harness.stream_client import StreamClient
from postwarden.screening.v1 import screening_pb2 as pb

PLANTED = "planted7key3of9zone"
TEMPLATE = "{key}.zen.dq.spamhaus.net"
NEXT_LOOK = 25.0
"""Seconds until a Secret that was not usable is looked at again, at the latest, and its rules are there."""


@pytest.fixture
def sidecar(api_server: ApiServer, operator: OperatorProcess, namespace: str) -> Iterator[StreamClient]:
    token = api_server.bound_token(mail_pod(api_server, namespace))
    with StreamClient(operator.address, operator.ca_pem, token) as client:
        assert client.receive().WhichOneof("message") == "unmanaged"
        yield client


def test_key_is_read_once_everybody_allows_it_and_shows_nowhere(
    api_server: ApiServer, operator: OperatorProcess, namespace: str, sidecar: StreamClient
) -> None:
    api_server.apply(zone_key("dqs", namespace, PLANTED, used_for="example.org"))
    api_server.apply(policy("wall", namespace, dnsbl=asks_keyed_zone("dqs")))
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotPermitted")
    assert sidecar.receive().WhichOneof("message") == "hold"

    api_server.apply(may_read_secrets(namespace, ACCOUNT, NAMESPACE))
    api_server.apply(policy("wall", namespace, dnsbl=asks_keyed_zone("other")))
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotFound")
    api_server.apply(policy("wall", namespace, dnsbl=asks_keyed_zone("dqs")))
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotAllowed")
    assert "postwarden.dev/used-for" in conditions(api_server, "wall", namespace)["ResolvedRefs"]["message"]

    api_server.apply(zone_key("dqs", namespace, PLANTED))
    api_server.apply(policy("wall", namespace, dnsbl={**asks_keyed_zone("dqs"), "threshold": 2}))
    while (message := sidecar.receive(NEXT_LOOK)).WhichOneof("message") == "hold":
        pass
    sidecar.ack(message.snapshot)
    (site,) = message.snapshot.rules.dnsbl.sites
    assert (site.zone, site.template) == (f"{PLANTED}.zen.dq.spamhaus.net", TEMPLATE)
    wait_for_reasons(
        api_server, "wall", namespace, ResolvedRefs="True/Resolved", DNSBLHealthy="Unknown/NoReports"
    )

    report = pb.DnsblReport(zone=TEMPLATE, state=pb.DNSBL_STATE_BLOCKED, detail="127.255.255.254")
    sidecar.send(pb.SidecarMessage(dnsbl=report))
    wait_for_reasons(api_server, "wall", namespace, DNSBLHealthy="False/Blocked")
    (health,) = policy_object(api_server, "wall", namespace)["status"]["dnsblHealth"]
    assert (health["zone"], health["state"], health["affected"]) == (TEMPLATE, "Blocked", 1)
    assert health["detail"] == "127.255.255.254"

    shown = json.dumps(policy_object(api_server, "wall", namespace)) + operator.process.log.read_text()
    assert PLANTED not in shown
    assert base64.b64encode(PLANTED.encode()).decode() not in shown
    asked = {
        event["verb"]
        for event in api_server.audited(ACCOUNT, NAMESPACE)
        if (event.get("objectRef", {}).get("resource"), event.get("objectRef", {}).get("namespace"))
        == ("secrets", namespace)
    }
    assert asked == {"get"}
