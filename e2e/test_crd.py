"""The ScreeningPolicy's definition on a real API server: it takes it, checks by it, and agrees with the operator's model."""

from pathlib import Path
from typing import Any

import pytest
from harness.cluster import ApiError, ApiServer, KubectlError
from policy.documents import BAD, GOOD, Bad, document
from policy.smtp_documents import SMTP_BAD, SMTP_GOOD
from postwarden_operator.policy import PolicyInvalid, parse_policy
from postwarden_operator.policy.schema import custom_resource_definition

ALL_GOOD = {**GOOD, **SMTP_GOOD}
ALL_BAD = [*BAD, *SMTP_BAD]

CRD = Path(__file__).parents[1] / "crds" / "postwarden.dev_screeningpolicies.yaml"


@pytest.fixture(scope="module", autouse=True)
def definition(api_server: ApiServer) -> None:
    api_server.apply(CRD)


def create(server: ApiServer, policy: dict[str, object], namespace: str) -> dict[str, Any]:
    """The object as it would be stored; as strict about unknown fields as kubectl is."""
    path = f"/apis/postwarden.dev/v1alpha1/namespaces/{namespace}/screeningpolicies"
    return server.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", policy)


@pytest.mark.parametrize("name", ALL_GOOD)
def test_good_policy_is_stored_with_the_defaults_that_the_model_has(name: str, api_server: ApiServer) -> None:
    policy = document(ALL_GOOD[name], namespace="default")
    stored = create(api_server, policy, "default")
    assert parse_policy(stored, strict=True).spec == parse_policy(policy, strict=True).spec


def test_minimal_policy_shows_its_defaults(api_server: ApiServer) -> None:
    stored = create(api_server, document({"selector": {}}, namespace="default"), "default")
    assert stored["spec"] == {
        "selector": {},
        "mode": "Enforce",
        "access": {"myNetworks": ["127.0.0.0/8", "::1/128"], "rejectAction": "Enforce"},
        "pregreet": {"action": "Enforce", "wait": "6s", "stressWait": "2s", "ttl": "24h"},
        "dnsbl": {
            "action": "Enforce",
            "threshold": 1,
            "allowThreshold": 0,
            "timeout": "10s",
            "ttl": {"min": "60s", "max": "1h"},
        },
        "protocol": {
            "pipelining": {"enabled": True, "action": "Enforce", "ttl": "720h"},
            "nonSMTPCommand": {"enabled": True, "action": "Drop", "ttl": "720h"},
            "bareNewline": {"enabled": True, "action": "Enforce", "ttl": "720h"},
            "forbiddenCommands": ["CONNECT", "GET", "POST"],
            "handoff": "Inline",
        },
        "listener": {"proxyProtocol": {"timeout": "5s"}},
        "session": {
            "commandTimeLimit": "300s",
            "stressCommandTimeLimit": "10s",
            "commandCountLimit": 20,
            "lineLengthLimit": 2048,
            "helloRequired": False,
            "rejectFooter": "",
            "softFail": False,
        },
        "exemptions": {},
        "limits": {
            "connectionsPerClient": 50,
            "screening": 1000,
            "upstream": 100,
            "clientPrefix": {"ipv4": 32, "ipv6": 64},
        },
        "stress": {"enterPercent": 90, "leavePercent": 70},
        "cache": {"retention": "168h", "keyPrefix": {"ipv4": 32, "ipv6": 128}},
        "telemetry": {"logFormat": "JSON", "envelopeAddresses": "Full"},
    }


@pytest.mark.parametrize("bad", [bad for bad in ALL_BAD if bad.api is not None], ids=lambda bad: bad.name)
def test_bad_policy_is_refused_at_its_field(bad: Bad, api_server: ApiServer) -> None:
    assert bad.api is not None
    with pytest.raises(ApiError) as caught:
        create(api_server, document(bad.spec, namespace="default"), "default")
    message = str(caught.value)
    assert bad.api in message
    # What a map or a list as a whole is refused for is told of the map or list.
    field = (
        bad.field if bad.field in message or "matchLabels[" not in bad.field else "spec.selector.matchLabels"
    )
    assert field in message


@pytest.mark.parametrize("bad", [bad for bad in ALL_BAD if bad.api is None], ids=lambda bad: bad.name)
def test_what_no_schema_can_see_is_stored_and_refused_by_the_operator(
    bad: Bad, api_server: ApiServer
) -> None:
    stored = create(api_server, document(bad.spec, namespace="default"), "default")
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(stored, strict=False)
    assert [error.field for error in caught.value.errors] == [bad.field]


def test_each_rule_of_the_definition_refuses_something() -> None:
    told = [bad.api for bad in ALL_BAD if bad.api]
    assert [
        message
        for message in cel_messages(custom_resource_definition())
        if not any(api in message for api in told)
    ] == []


def cel_messages(node: object) -> list[str]:
    if isinstance(node, list):
        return [message for inner in node for message in cel_messages(inner)]
    if not isinstance(node, dict):
        return []
    own = [rule["message"] for rule in node.get("x-kubernetes-validations", [])]
    return own + [message for inner in node.values() for message in cel_messages(inner)]


def test_kubectl_refuses_an_unknown_field(api_server: ApiServer, namespace: str) -> None:
    with pytest.raises(KubectlError, match=r'unknown field "spec\.pregreat"'):
        api_server.apply(document({"selector": {}, "pregreat": {}}, namespace=namespace))


def test_table_shows_how_far_a_policy_has_come(api_server: ApiServer, namespace: str) -> None:
    api_server.apply(document({"selector": {}, "mode": "Observe"}, namespace=namespace))
    condition = {
        "type": "Programmed",
        "status": "True",
        "reason": "Synced",
        "message": "all",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }
    status = {
        "observedGeneration": 1,
        "revision": "0123456789abcdef",
        "sidecars": {"summary": "9/10"},
        "conditions": [condition],
    }
    api_server.request(
        "PATCH",
        f"/apis/postwarden.dev/v1alpha1/namespaces/{namespace}/screeningpolicies/mx/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    head, row = api_server.kubectl("get", "spol", f"--namespace={namespace}").splitlines()
    assert head.split() == ["NAME", "MODE", "SIDECARS", "PROGRAMMED", "REVISION", "AGE"]
    assert row.split()[:5] == ["mx", "Observe", "9/10", "True", "0123456789abcdef"]
    assert api_server.get("screeningpolicy", "mx", namespace)["metadata"]["generation"] == 1


def test_largest_policy_that_the_bounds_allow_is_checked_within_the_cost_limit(
    api_server: ApiServer, namespace: str
) -> None:
    networks = [f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{number:x}/128" for number in range(0x1000, 0x1400)]
    rule = {"action": "Reject", "cidrs": networks}
    # As many as fit into a request, which etcd limits to 1.5 MiB.
    stored = create(
        api_server,
        document({"selector": {}, "access": {"rules": [rule] * 20}}, namespace=namespace),
        namespace,
    )
    assert len(stored["spec"]["access"]["rules"]) == 20
