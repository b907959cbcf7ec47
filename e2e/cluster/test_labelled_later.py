"""A mail server that runs already is labelled as the chart's notes say: it is screened from its new pods on."""

import json

from harness.mail_clients import Flow
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import enforce
from harness.one_node.fixtures import RealCluster

PATCH = {"spec": {"template": {"metadata": {"labels": {"postwarden.dev/inject": "true"}}}}}

SPEC = {"pregreet": {"wait": "1s"}, "upstream": {"port": 25, "handoff": "Plain"}}
"""It expects no PROXY header: nothing of the mail server is changed."""


LIFECYCLE = {"preStop": {"sleep": {"seconds": 5}}}
"""As a mail server without a sidecar needs it: Postfix ends at once, and what a pod that goes has just taken goes with its queue."""


def test_sidecars_come_with_a_rollout(installed: RealCluster) -> None:
    with MailService(
        installed, "labelled", handoff="plain", labelled=False, container={"lifecycle": LIFECYCLE}
    ) as service:
        assert "postwarden-sidecar" not in containers(service)
        with service.client("friend") as friend:
            with Flow(friend, "labelled") as flow:
                label(service)
                flow.wait_for(3)
            flow.arrived()
        with service.client("zombie") as zombie:
            hasty = zombie.speak("early")
            assert hasty.last.startswith("550 5.5.1"), hasty


def label(service: MailService) -> None:
    """As the notes of the chart say."""
    service.cluster.kubectl("label", "namespace", service.namespace, "postwarden.dev/injection=enabled")
    service.kubectl("patch", "deployment", "postfix", "--type=merge", f"--patch={json.dumps(PATCH)}")
    service.wait_until_rolled_out()
    assert containers(service).count("postwarden-sidecar") == 2
    enforce(service, **SPEC)


def containers(service: MailService) -> list[str]:
    """The names of all pods' sidecars and init containers."""
    return service.kubectl(
        "get", "pods", "--selector=app=postfix", "--output=jsonpath={.items[*].spec.initContainers[*].name}"
    ).split()
