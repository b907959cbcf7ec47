"""Pods that are not screened, in a real cluster: they are refused, or start without a sidecar, as was asked for; and it is said why."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from harness.chart import RELEASE, RELEASE_NAMESPACE
from harness.cluster_client import KubectlError
from harness.mail_cluster import CLIENT_IMAGE
from harness.one_node.fixtures import RealCluster, wait_until_operator_serves
from harness.polling import poll
from harness.screening_objects import conditions, policy, wait_for_reasons
from inject.golden import Golden, goldens

INJECTED = {"postwarden.dev/inject": "true"}

TOLD_WITHIN = 60.0
"""Seconds until controllers, kubelet or the operator have said it; some seconds are usual."""

BAD_PODS = {
    each.name: each
    for each in goldens()
    if each.name in {"nonsense", "no-smtp-port", "two-smtp-ports", "host-network", "port-taken"}
}


class Namespace:
    """Of a test, and gone with it. enabled: it lets sidecars in."""

    def __init__(self, cluster: RealCluster, *, enabled: bool) -> None:
        self.cluster = cluster
        self.name = f"bare-{secrets.token_hex(2)}"
        labels = {"postwarden.dev/injection": "enabled"} if enabled else {}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin)

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Raises KubectlError; not for a ServiceAccount that is not there yet."""
        end = time.monotonic() + TOLD_WITHIN
        while True:
            try:
                self.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
                return
            except KubectlError as error:
                if "serviceaccount" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def runs_without_a_sidecar(self, name: str) -> dict[str, Any]:
        """The pod. Raises TimeoutError."""

        def pod() -> dict[str, Any]:
            return self.cluster.pod(name, self.name)

        poll(lambda: pod()["status"]["phase"] == "Running", TOLD_WITHIN, lambda: f"{name}: {pod()['status']}")
        found = pod()
        assert "initContainers" not in found["spec"]
        return found

    def wait_until_policy_tells_of(self, name: str) -> str:
        """Its condition's message. Raises TimeoutError."""
        self.cluster.apply(policy("wall", self.name))
        wait_for_reasons(self.cluster, "wall", self.name, within=TOLD_WITHIN, Intercepted="False/NotInjected")
        message: str = conditions(self.cluster, "wall", self.name)["Intercepted"]["message"]
        assert f"1 pods run without a sidecar ({name})" in message
        return message


@pytest.fixture
def enabled(installed: RealCluster) -> Iterator[Namespace]:
    namespace = Namespace(installed, enabled=True)
    yield namespace
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


def asleep(name: str, **annotations: str) -> dict[str, Any]:
    """A pod that could be screened, of a mail server that does nothing."""
    container = {
        "name": "mta",
        "image": CLIENT_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "ports": [{"name": "smtp", "containerPort": 25}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": INJECTED,
            "annotations": {f"postwarden.dev/{key}": value for key, value in annotations.items()},
        },
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def replica_set(golden: Golden) -> dict[str, Any]:
    labels = {"app": golden.name, **INJECTED}
    metadata = {"labels": labels, "annotations": golden.pod["metadata"].get("annotations", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": golden.name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": metadata, "spec": golden.pod["spec"]},
        },
    }


def test_a_pod_that_cannot_be_screened_is_refused_and_its_replica_set_says_why(enabled: Namespace) -> None:
    for golden in BAD_PODS.values():
        enabled.create(replica_set(golden))
    for name, golden in BAD_PODS.items():
        _, _, reason = golden.wanted["refused"].partition(" can't be screened: ")

        def told(name: str = name) -> str:
            return enabled.cluster.events_of(name, enabled.name)

        poll(lambda told=told, reason=reason: reason in told(), TOLD_WITHIN, lambda told=told: told())  # type: ignore[misc]
        assert f"can't be screened: {reason}" in enabled.kubectl("describe", "replicaset", name)
    assert enabled.kubectl("get", "pods", "--output=name") == ""


def test_where_it_was_asked_for_it_starts_unscreened_and_all_places_say_so(enabled: Namespace) -> None:
    reason = '"magic" is none of port, redirect, none'
    enabled.create(asleep("unscreened", intercept="magic", **{"on-error": "Unscreened"}))
    pod = enabled.runs_without_a_sidecar("unscreened")
    assert reason in pod["metadata"]["annotations"]["postwarden.dev/not-injected"]
    assert "postwarden.dev/not-injected" in enabled.wait_until_policy_tells_of("unscreened")
    said = enabled.cluster.kubectl(
        *("logs", "--selector=app.kubernetes.io/component=operator", "--tail=-1"),
        f"--namespace={RELEASE_NAMESPACE}",
    )
    assert f"pod {enabled.name}/unscreened starts UNSCREENED" in said


def test_a_namespace_without_the_label_is_told_of_by_the_policy(installed: RealCluster) -> None:
    namespace = Namespace(installed, enabled=False)
    namespace.create(asleep("forgotten"))
    namespace.runs_without_a_sidecar("forgotten")
    assert "postwarden.dev/injection=enabled" in namespace.wait_until_policy_tells_of("forgotten")
    namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_while_the_webhook_is_down_failure_policy_decides(enabled: Namespace) -> None:
    cluster = enabled.cluster
    operator = ("deployment", f"{RELEASE}-operator", f"--namespace={RELEASE_NAMESPACE}")
    selector = ("--selector=app.kubernetes.io/component=operator", f"--namespace={RELEASE_NAMESPACE}")

    def decide(failure_policy: str) -> None:
        change = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": failure_policy}]
        cluster.kubectl(
            *(
                "patch",
                "mutatingwebhookconfiguration",
                RELEASE,
                "--type=json",
                f"--patch={json.dumps(change)}",
            )
        )

    replicas = cluster.get("deployment", operator[1], RELEASE_NAMESPACE)["spec"]["replicas"]
    cluster.kubectl("scale", *operator, "--replicas=0")
    try:
        poll(
            lambda: not cluster.pods(RELEASE_NAMESPACE, "app.kubernetes.io/component=operator"),
            TOLD_WITHIN,
            lambda: cluster.kubectl("get", "pods", *selector),
        )
        enabled.create(asleep("alone"))
        enabled.runs_without_a_sidecar("alone")
        decide("Fail")
        with pytest.raises(KubectlError, match=r'failed calling webhook "inject\.postwarden\.dev"'):
            enabled.create(asleep("held-back"))
    finally:
        decide("Ignore")
        cluster.kubectl("scale", *operator, f"--replicas={replicas}")
        wait_until_operator_serves(cluster)
    enabled.wait_until_policy_tells_of("alone")
