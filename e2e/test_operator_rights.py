"""The operator's rights in the chart are what it uses, by the API server's own audit log: not one less, not one more."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.chart import documents, operator_rights
from harness.cluster import ApiServer, wait_for
from harness.injecting_operator import CONFIGURATION, InjectingOperator, webhook_configuration
from harness.operator_authority import SECRET
from harness.operator_process import ACCOUNT, NAMESPACE, OperatorProcess
from harness.polling import poll
from harness.replica_fixtures import replica_options
from harness.screening_objects import (
    asks_keyed_zone,
    config_map,
    may_read_secrets,
    policy,
    reject_listed,
    wait_for_reasons,
    zone_key,
)
from harness.sidecar_fixtures import StartSidecar

Right = tuple[str, str, str]
"""API group, resource (with its subresource), verb."""


def granted() -> Iterator[Right]:
    for document in documents(operator_rights()):
        for rule in document.get("rules", ()):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield group, resource, verb


def right_of(event: Mapping[str, Any]) -> Right:
    about = event["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    return about.get("apiGroup", ""), resource, event["verb"]


def test_operator_asks_for_what_it_may_and_uses_all_that_it_may(
    api_server: ApiServer,
    operator: OperatorProcess,
    namespace: str,
    start_sidecar: StartSidecar,
    tmp_path: Path,
) -> None:
    # What was refused earlier counts not: an API server that has just started knows no rights for a moment.
    before = len(api_server.audited(ACCOUNT, NAMESPACE))
    # A CA of its own: made, told to the API server, found damaged, and mended.
    with InjectingOperator(api_server, secret=SECRET) as authority:
        api_server.apply(webhook_configuration(authority.webhook_port))
        wait_for(lambda: authority.trusted == authority.ca_pem, what="the webhook's caBundle")
        api_server.kubectl("delete", "mutatingwebhookconfiguration", CONFIGURATION)
        damage = json.dumps({"data": {"ca.crt": None}})
        api_server.kubectl(
            *("patch", "secret", SECRET, f"--namespace={NAMESPACE}", "--type=merge", f"--patch={damage}")
        )
        authority.restart()
    # Its whole work: a list that it finds, one that it must ask for by name, a Secret, a token, a status.
    api_server.apply(may_read_secrets(namespace, ACCOUNT, NAMESPACE))
    api_server.apply(zone_key("dqs", namespace, "some7key"))
    api_server.apply(config_map("plain", namespace, "192.0.2.0/24\n", watched=False))
    api_server.apply(policy("wall", namespace, access=reject_listed("plain"), dnsbl=asks_keyed_zone("dqs")))
    start_sidecar()
    wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="False/RefNotLabelled")
    api_server.kubectl("label", "configmap", "plain", "postwarden.dev/watch=true", f"--namespace={namespace}")
    wait_for_reasons(api_server, "wall", namespace, Programmed="True/Synced")

    def used() -> set[Right]:
        return {right_of(event) for event in api_server.audited(ACCOUNT, NAMESPACE) if "objectRef" in event}

    expected = set(granted())
    # Another replica, for the Lease by which they agree.
    with OperatorProcess(api_server, options=replica_options(api_server, tmp_path, [], "rights")):
        poll(
            lambda: used() == expected,
            5,
            lambda: f"granted and not used, or not granted: {used() ^ expected}",
        )
    requests = api_server.audited(ACCOUNT, NAMESPACE)[before:]
    assert {event["annotations"]["authorization.k8s.io/decision"] for event in requests} == {"allow"}
