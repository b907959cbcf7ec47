"""A mail service in a real cluster: Postfix in pods, a Service before it, pods as clients, and one mailbox for all that arrives.

Contract: `MailService` is a Deployment of Postfix with the label that has it screened, in a namespace that lets sidecars in. All pods
deliver into one folder of the node (hostPath), so that no mail is lost to the count when a pod ends. Clients are pods, too:
`MailService.client()` runs pod_client.py in one. Only kubectl is used, so it works on any cluster of one node that has the images.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.cluster_client import ClusterClient, KubectlError, wait_for
from harness.images import Image, debian_image
from harness.mail_clients import ClientPod
from harness.postfix_configuration import main_cf, master_cf, recipient_table

DOMAIN = "example.org"
MAIL_UID = 5000

POSTFIX_IMAGE = "localhost/postwarden-postfix:test"
CLIENT_IMAGE = "localhost/postwarden-sidecar:test"
"""It has Python, and is on the node anyway."""


READY_TIMEOUT = 90.0
"""Seconds for a rollout; 5 s are usual, and a drain takes its own time."""

_ENTRY = f"""#!/bin/sh
# HANDOFF: proxy, plain or pass; proxy-open: proxy, on all of the pod's addresses.
set -e
cp /etc/postfix/master-$HANDOFF.cf /etc/postfix/master.cf
mkdir -p /var/mail/all/tmp /var/mail/all/new /var/mail/all/cur
# Not what is in them: other pods deliver there now.
chown {MAIL_UID}:{MAIL_UID} /var/mail/all /var/mail/all/*
chmod 755 /var/spool/postfix
postfix check
exec postfix start-fg
"""


def postfix_image(root: Path) -> Image:
    """Debian's Postfix, configured as the documentation says for each hand-off; it logs to stdout. root: fixture postfix_root's."""
    settings = main_cf(hostname="mail.example.com", domain=DOMAIN, mynetworks=(), mail_uid=MAIL_UID)
    settings["maillog_file"] = "/dev/stdout"
    files = {
        f"/etc/postfix/master-{handoff}.cf": master_cf(handoff, "127.0.0.1", 25)
        for handoff in ("proxy", "pass")
    }
    files |= {
        "/etc/postfix/master-plain.cf": master_cf("plain", "0.0.0.0", 25),
        "/etc/postfix/master-proxy-open.cf": master_cf("proxy", "0.0.0.0", 25),
        "/etc/postfix/main.cf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        "/etc/postfix/recipients": recipient_table(DOMAIN, None),
        "/usr/local/bin/mail-server": _ENTRY,
    }
    return debian_image("postwarden-postfix", root, files, ["mail-server"])


class MailService:
    """cluster: where. namespace: what the name of its own begins with; it is made. annotations: of the pods. handoff: what Postfix
    expects, see the image's entry point. pod: more of the pods' spec. container: more of Postfix's. volume_mounts: more of it.
    labelled: whether namespace and pods ask for a sidecar from their beginning. traffic_policy: of the Service's nodePort."""

    name = "postfix"

    def __init__(
        self,
        cluster: ClusterClient,
        namespace: str,
        *,
        replicas: int = 2,
        handoff: str = "proxy",
        annotations: Mapping[str, str] | None = None,
        pod: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
        volume_mounts: Sequence[Mapping[str, Any]] = (),
        labelled: bool = True,
        traffic_policy: str = "Local",
    ) -> None:
        self.cluster = cluster
        # Another run's may still be on its way out.
        self.namespace = f"{namespace}-{secrets.token_hex(2)}"
        self._replicas = replicas
        self._handoff = handoff
        self._annotations = dict(annotations or {})
        self._pod = dict(pod or {})
        self._container = dict(container or {})
        self._mounts = list(volume_mounts)
        self._labelled = labelled
        self._traffic_policy = traffic_policy

    def __enter__(self) -> Self:
        """Raises KubectlError, TimeoutError with what the pods say."""
        labels = {"postwarden.dev/injection": "enabled"} if self._labelled else {}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        )
        self.cluster.apply(self._deployment(), self._service())
        self.wait_until_rolled_out()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """In the namespace. Raises KubectlError."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def wait_until_rolled_out(self) -> None:
        """Every replica is ready, and no old one is left to serve. Raises TimeoutError."""
        try:
            wait_for(self._rolled_out, READY_TIMEOUT, f"the Deployment {self.namespace}/{self.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.told()}") from error

    def told(self) -> str:
        """What the cluster and the pods say, for a failure's text."""
        said = [self.kubectl("get", "pods", "--output=wide")]
        said.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-3000:])
        for pod in self.pods():
            for container in ("postwarden-sidecar", self.name):
                try:
                    said.append(self.kubectl("logs", pod, f"--container={container}", "--tail=15"))
                except KubectlError as error:
                    said.append(str(error))
        return "\n".join(said)

    def pods(self) -> list[str]:
        """The names of Postfix's pods that are not on their way out."""
        return [
            each["metadata"]["name"] for each in self._pods() if "deletionTimestamp" not in each["metadata"]
        ]

    def addresses(self) -> dict[str, str]:
        """Of each of these pods."""
        return {
            each["metadata"]["name"]: each["status"].get("podIP", "")
            for each in self._pods()
            if "deletionTimestamp" not in each["metadata"]
        }

    def node_port(self) -> int:
        """By which the Service takes clients in at the node's address."""
        return int(self.kubectl("get", "service", "mail", "--output=jsonpath={.spec.ports[0].nodePort}"))

    def sidecar_log(self, pod: str) -> list[dict[str, Any]]:
        """The records of connections that its sidecar has logged."""
        lines = self.kubectl("logs", pod, "--container=postwarden-sidecar").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @contextmanager
    def client(self, name: str) -> Iterator[ClientPod]:
        """A pod that sends mail; it is gone afterwards."""
        container = {
            "name": "client",
            "image": CLIENT_IMAGE,
            "command": ["sleep", "infinity"],
            # To read the mailbox.
            "securityContext": {"runAsUser": 0},
            "imagePullPolicy": "IfNotPresent",
            "volumeMounts": [MAIL_MOUNT],
        }
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": "client"}},
                "spec": {
                    "containers": [container],
                    "volumes": [self._mail_volume()],
                    "terminationGracePeriodSeconds": 0,
                },
            }
        )
        try:
            address = wait_for(lambda: self._address_of(name), READY_TIMEOUT, f"the client {name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.told()}") from error
        try:
            yield ClientPod(self.cluster, self.namespace, name, address)
        finally:
            self.kubectl("delete", "pod", name, "--wait=false")

    def _address_of(self, name: str) -> str:
        """The pod's; "" until it is ready."""
        status = self.cluster.pod(name, self.namespace)["status"]
        ready = any(
            each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ())
        )
        return str(status["podIP"]) if ready else ""

    def _pods(self) -> list[dict[str, Any]]:
        return self.cluster.pods(self.namespace, f"app={self.name}")

    def _rolled_out(self) -> bool:
        deployment = self.cluster.deployment(self.name, self.namespace)
        status = deployment["status"]
        return bool(
            status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
            and status.get("updatedReplicas")
            == status.get("readyReplicas")
            == status.get("replicas")
            == self._replicas
        )

    def _mail_volume(self) -> dict[str, Any]:
        path = f"/var/lib/postwarden-mail/{self.namespace}"
        return {"name": "mail", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}

    def _deployment(self) -> dict[str, Any]:
        container = {
            "name": "postfix",
            "image": POSTFIX_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "HANDOFF", "value": self._handoff}],
            "ports": [{"name": "smtp", "containerPort": 25}],
            "readinessProbe": {"tcpSocket": {"port": "smtp"}, "periodSeconds": 1},
            "volumeMounts": [MAIL_MOUNT, QUEUE_MOUNT, *self._mounts],
            **self._container,
        }
        # What was accepted outlives the container.
        volumes = [self._mail_volume(), {"name": "queue", "emptyDir": {}}, *self._pod.get("volumes", ())]
        labels = {"app": self.name}
        injected = {"postwarden.dev/inject": "true"} if self._labelled else {}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "replicas": self._replicas,
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {
                        "labels": {**labels, **injected},
                        "annotations": self._annotations,
                    },
                    "spec": {**self._pod, "containers": [container], "volumes": volumes},
                },
            },
        }

    def _service(self) -> dict[str, Any]:
        # With Local clients from outside keep their address.
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mail", "namespace": self.namespace},
            "spec": {
                "type": "NodePort",
                "externalTrafficPolicy": self._traffic_policy,
                "selector": {"app": self.name},
                "ports": [{"name": "smtp", "port": 25, "targetPort": "smtp"}],
            },
        }


MAIL_MOUNT = {"name": "mail", "mountPath": "/var/mail"}

QUEUE_MOUNT = {"name": "queue", "mountPath": "/var/spool/postfix"}
