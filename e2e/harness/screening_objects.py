"""The Kubernetes objects of a screened mail server, and what its policy's status says."""

from collections.abc import Mapping
from typing import Any

from harness.cluster_client import ClusterClient, Pod, wait_for

SIDECAR = "postwarden-sidecar"
LABELS = {"postwarden.dev/inject": "true", "app": "mail"}


def policy(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {}, **spec},
    }


def reject(*cidrs: str) -> dict[str, Any]:
    return {"rules": [{"action": "Reject", "cidrs": list(cidrs)}]}


def reject_listed(name: str, key: str = "networks") -> dict[str, Any]:
    return {"rules": [{"action": "Reject", "listFrom": {"configMapKeyRef": {"name": name, "key": key}}}]}


def rejecting(*networks: str) -> dict[str, Any]:
    """Of a spec: clients of these networks are turned away by their first reply."""
    rules = [{"action": "Reject", "cidrs": list(networks)}]
    access = {"myNetworks": [], "rejectAction": "Drop", "rules": rules}
    return {"access": access, "pregreet": {"banner": ""}}


def config_map(name: str, namespace: str, networks: str, *, watched: bool = True) -> dict[str, Any]:
    labels = {"postwarden.dev/watch": "true"} if watched else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {"networks": networks},
    }


def asks_keyed_zone(secret: str, key: str = "token") -> dict[str, Any]:
    """`spec.dnsbl` with one zone that needs a key."""
    key_from = {"secretKeyRef": {"name": secret, "key": key}}
    return {"sites": [{"zone": "{key}.zen.dq.spamhaus.net", "keyFrom": key_from}]}


def zone_key(name: str, namespace: str, value: str, *, used_for: str = "dq.spamhaus.net") -> dict[str, Any]:
    """A Secret with the key of a DNSBL zone."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"postwarden.dev/used-for": used_for},
        },
        "stringData": {"token": value},
    }


def may_read_secrets(namespace: str, account: str, of_namespace: str) -> dict[str, Any]:
    """Lets the operator's ServiceAccount get the Secrets of the namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "postwarden-operator-secrets", "namespace": namespace},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "postwarden-operator-secrets",
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of_namespace}],
    }


def mail_pod(
    api_server: ClusterClient,
    namespace: str,
    name: str = "mta-0",
    *,
    container: str = SIDECAR,
    **labels: str,
) -> Pod:
    """A pod object that carries our container."""
    return api_server.create_pod(name, namespace, labels={**LABELS, **labels}, spec=pod_spec(container))


def pod_spec(sidecar: str = SIDECAR) -> dict[str, Any]:
    """An MTA, and a native sidecar of this name."""
    return {
        "containers": [{"name": "mta", "image": "mta"}],
        "initContainers": [{"name": sidecar, "image": "postwarden-sidecar", "restartPolicy": "Always"}],
    }


def policy_object(api_server: ClusterClient, name: str, namespace: str) -> dict[str, Any]:
    """The policy as it is stored. By REST: kubectl would take longer to start than the operator to answer. Raises ApiError."""
    return api_server.request(
        "GET", f"/apis/postwarden.dev/v1alpha1/namespaces/{namespace}/screeningpolicies/{name}"
    )


def conditions(api_server: ClusterClient, name: str, namespace: str) -> dict[str, Mapping[str, Any]]:
    """By type; only those that are about the newest generation."""
    found = policy_object(api_server, name, namespace)
    generation = found["metadata"]["generation"]
    all_conditions = found.get("status", {}).get("conditions", [])
    return {each["type"]: each for each in all_conditions if each["observedGeneration"] == generation}


def reasons(api_server: ClusterClient, name: str, namespace: str) -> dict[str, str]:
    found = conditions(api_server, name, namespace)
    return {kind: f"{each['status']}/{each['reason']}" for kind, each in found.items()}


def wait_for_reasons(
    api_server: ClusterClient, name: str, namespace: str, *, within: float = 30.0, **expected: str
) -> None:
    """Raises TimeoutError after `within` seconds, with what the status says."""
    seen: dict[str, str] = {}

    def as_expected() -> bool:
        seen.clear()
        seen.update(reasons(api_server, name, namespace))
        return expected.items() <= seen.items()

    try:
        wait_for(as_expected, within)
    except TimeoutError as error:
        said = {kind: each["message"] for kind, each in conditions(api_server, name, namespace).items()}
        raise TimeoutError(f"status of {name}: expected {expected}, found {seen}: {said}") from error
