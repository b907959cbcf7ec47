"""What ends or is replaced while mail flows: no accepted mail is lost, and nobody finds the port closed.

Mail is counted: each has a subject of its own, and all pods deliver into one mailbox.
"""

import signal
from contextlib import suppress

import pytest
from harness.cluster_client import KubectlError, wait_for
from harness.mail_clients import ClientPod, Flow
from harness.mail_cluster import MailService
from harness.mail_cluster_fixtures import ENFORCED_WITHIN, enforce, hears, screening
from harness.one_node.fixtures import wait_until_operator_serves
from harness.one_node.node import OneNode

BACK_WITHIN = 60.0
"""Seconds until kubelet has a container running again: it waits 10 s before the second time."""

KILL_A_WORKER = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*"):
    if b"postwarden_sidecar.worker" in (path / "cmdline").read_bytes():
        os.kill(int(path.name), signal.SIGKILL)
        print(path.name)
        break
"""


def temporary_or_cut(flow: Flow) -> bool:
    """Whether each mail that was not accepted was put off with 4xx, or its connection ended; none found the port closed."""
    return all(
        each["reply"][:1] in ("", "2", "4") and "at connect" not in each["kind"] for each in flow.others
    )


def test_operators_pods_deleted(mail_service: MailService, friend: ClientPod, zombie: ClientPod) -> None:
    enforce(mail_service, **screening())
    cluster = mail_service.cluster
    selector = "--selector=app.kubernetes.io/component=operator"
    with Flow(friend, "operator-deleted") as flow:
        flow.wait_for(3)
        cluster.kubectl("delete", "pods", selector, "--namespace=postwarden-system", "--wait=false")
        flow.wait_for(10)
        wait_until_operator_serves(cluster)
        enforce(mail_service, **screening(f"{zombie.address}/32"))
        wait_for(lambda: hears(zombie, "mail", "521"), ENFORCED_WITHIN, "the rules of the new operator")
        flow.wait_for(3)
    assert flow.others == []
    flow.arrived()


def test_worker_killed(mail_service: MailService, friend: ClientPod) -> None:
    enforce(mail_service, **screening())
    with Flow(friend, "worker-killed") as flow:
        flow.wait_for(3)
        for pod in mail_service.pods():
            killed = mail_service.kubectl(
                "exec", pod, "--container=postwarden-sidecar", "--", "python3", "-c", KILL_A_WORKER
            )
            assert killed.strip().isdecimal()
            flow.wait_for(5)
    assert temporary_or_cut(flow), flow.others
    assert len(flow.others) <= 2, flow.others  # those that it had in its hands
    flow.arrived()


def test_mail_server_restarted(mail_service: MailService, friend: ClientPod) -> None:
    enforce(mail_service, **screening())
    pod = mail_service.pods()[0]
    with Flow(friend, "mta-restarted") as flow:
        flow.wait_for(3)
        # The command ends with its container.
        with suppress(KubectlError):
            mail_service.kubectl("exec", pod, "--container=postfix", "--", "postfix", "stop")
        flow.wait_for(10)
        wait_for(
            lambda: restarts(mail_service, pod, "containerStatuses", "postfix") >= 1,
            BACK_WITHIN,
            "Postfix's new container",
        )
        mail_service.wait_until_rolled_out()
        flow.wait_for(5)
    assert temporary_or_cut(flow), flow.others
    flow.arrived()


def test_rollout(mail_service: MailService, friend: ClientPod) -> None:
    enforce(mail_service, **screening())
    before = set(mail_service.pods())
    with Flow(friend, "rollout") as flow:
        flow.wait_for(3)
        mail_service.kubectl("rollout", "restart", "deployment/postfix")
        wait_for(lambda: before.isdisjoint(mail_service.pods()), BACK_WITHIN, "new pods")
        mail_service.wait_until_rolled_out()
        flow.wait_for(20)
    assert flow.others == []
    flow.arrived()


def test_sidecar_killed(mail_service: MailService, friend: ClientPod) -> None:
    cluster = mail_service.cluster
    if not isinstance(cluster, OneNode):
        pytest.skip("a container's first process can be killed on the tests' own node only")
    enforce(mail_service, **screening())
    pod = mail_service.pods()[0]
    with Flow(friend, "sidecar-killed") as flow:
        flow.wait_for(3)
        cluster.kill_container(container_id(mail_service, pod), signal.SIGKILL)
        wait_for(
            lambda: restarts(mail_service, pod, "initContainerStatuses", "postwarden-sidecar") >= 1,
            BACK_WITHIN,
            "the sidecar's new container",
        )
        mail_service.wait_until_rolled_out()
        before = len(flow.tries)
        flow.wait_for(10)
    assert all(each["kind"] or each["reply"][:1] == "4" for each in flow.others), flow.others
    assert [each for each in flow.tries[before:] if not each["accepted"]] == []
    flow.arrived()


def restarts(service: MailService, pod: str, kind: str, container: str) -> int:
    statuses = service.cluster.pod(pod, service.namespace)["status"].get(kind, ())
    return sum(each["restartCount"] for each in statuses if each["name"] == container)


def container_id(service: MailService, pod: str) -> str:
    path = '--output=jsonpath={.status.initContainerStatuses[?(@.name=="postwarden-sidecar")].containerID}'
    return service.kubectl("get", "pod", pod, path).removeprefix("containerd://")
