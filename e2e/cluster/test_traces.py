"""What happened in the cluster is found in its Jaeger: a client's session by its address, and an edit of a policy up to every pod."""

from harness.cluster_jaeger import ClusterJaeger
from harness.mail_clients import ClientPod
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import enforce, screening
from harness.polling import poll

SIDECAR, OPERATOR = "postwarden-sidecar", "postwarden-operator"

EXPORT_TIMEOUT = 60.0
"""Seconds until all pods' spans are found; they are sent every second."""


def test_a_zombie_and_a_friend_are_found(
    mail_service: MailService, friend: ClientPod, zombie: ClientPod, cluster_jaeger: ClusterJaeger
) -> None:
    # Few of those that are dropped have a trace else.
    everything = {"sampling": [{"verdict": "dropped"}]}
    enforce(mail_service, **screening(f"{zombie.address}/32", telemetry=everything))
    assert zombie.speak("good").replies[0].startswith("521")
    assert friend.speak("good").last.startswith("250")
    by_address = {"client.address": zombie.address, "postwarden.verdict": "dropped"}
    dropped = cluster_jaeger.wait_for(SIDECAR, "smtp.screen", by_address)
    # New in the one pod, or known in the other.
    by_address = {
        "client.address": friend.address,
        "postwarden.policy.name": "wall",
        "postwarden.handoff": "ProxyV2",
    }
    handed_over = cluster_jaeger.wait_for(SIDECAR, "smtp.screen", by_address)
    for trace in (dropped, handed_over):
        assert trace.root.resource["k8s.namespace.name"] == mail_service.namespace
        assert trace.root.resource["k8s.pod.name"].startswith("postfix-")


def test_an_edit_is_found_from_kubectl_to_every_pod(
    mail_service: MailService, cluster_jaeger: ClusterJaeger
) -> None:
    enforce(mail_service, **screening())
    enforce(mail_service, **screening("192.0.2.0/24"))
    stored = mail_service.cluster.get("spol", "wall", mail_service.namespace)
    change = {
        "postwarden.policy.namespace": mail_service.namespace,
        "postwarden.policy.generation": str(stored["metadata"]["generation"]),
    }

    def applied() -> set[str]:
        # Each replica of the operator tells its own sidecars.
        traces = cluster_jaeger.find(OPERATOR, "policy.change", change)
        return {span.resource["k8s.pod.name"] for trace in traces for span in trace.named("policy.apply")}

    pods = set(mail_service.pods())
    poll(lambda: applied() == pods, EXPORT_TIMEOUT, lambda: f"applied by {applied()} of {pods}")
