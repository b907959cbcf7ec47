"""A mail service in a real cluster: Postfix in pods, a Service before it, pods as clients, and one mailbox for all that arrives.

Contract: `MailService` is a Deployment of Postfix with the label that has it screened, in a namespace that lets sidecars in. All pods
deliver into one folder of the node (hostPath), so that no mail is lost to the count when a pod ends. Clients are pods, too:
`MailService.client()` runs pod_client.py in one. Only kubectl is used, so it works on any cluster of one node that has the images.
"""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.cluster_client import ClusterClient, KubectlError, wait_for
from harness.images import Image, debian_image
from harness.postfix_configuration import main_cf, master_cf, recipient_table
from harness.rootfs import debian_root

DOMAIN = "example.org"
MAIL_UID = 5000

POSTFIX_IMAGE = "localhost/postwarden-postfix:test"
CLIENT_IMAGE = "localhost/postwarden-client:test"

READY_TIMEOUT = 90.0
"""Seconds for a rollout; 5 s are usual, and a drain takes its own time."""

_ENTRY = f"""#!/bin/sh
# HANDOFF: proxy, plain or pass.
set -e
cp /etc/postfix/master-$HANDOFF.cf /etc/postfix/master.cf
mkdir -p /var/mail/all/tmp /var/mail/all/new /var/mail/all/cur
chown -R {MAIL_UID}:{MAIL_UID} /var/mail/all
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
        "/etc/postfix/main.cf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        "/etc/postfix/recipients": recipient_table(DOMAIN, None),
        "/usr/local/bin/mail-server": _ENTRY,
    }
    return debian_image("postwarden-postfix", root, files, ["mail-server"])


def client_image() -> Image:
    """A Debian with Python and the client."""
    base = debian_root("image-base", ["python3", "python3-venv", "ca-certificates"])
    script = Path(__file__).with_name("pod_client.py").read_text()
    return debian_image(
        "postwarden-client", base, {"/usr/local/bin/pod_client.py": script}, ["sleep", "infinity"]
    )


@dataclass(frozen=True)
class Said:
    """What a client heard: every reply, and how it ended."""

    replies: tuple[str, ...]
    ended: str

    @property
    def last(self) -> str:
        """But for the answer to QUIT; "" where nothing was heard."""
        heard = [reply for reply in self.replies if not reply.startswith("221")]
        return heard[-1] if heard else ""


class MailService:
    """cluster: where. namespace: its own, which is made. annotations: of the pods. handoff: that Postfix is configured for."""

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
        volume_mounts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._replicas = replicas
        self._handoff = handoff
        self._annotations = dict(annotations or {})
        self._pod = dict(pod or {})
        self._mounts = list(volume_mounts)

    def __enter__(self) -> Self:
        """Raises KubectlError, TimeoutError with what the pods say."""
        labels = {"postwarden.dev/injection": "enabled"}
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
        return self.cluster.kubectl(*arguments, f"--namespace={self.namespace}", stdin=stdin)

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
            for container in ("postwarden-sidecar", "postfix"):
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

    def sidecar_log(self, pod: str) -> list[dict[str, Any]]:
        """The records of connections that its sidecar has logged."""
        lines = self.kubectl("logs", pod, "--container=postwarden-sidecar").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @contextmanager
    def client(self, name: str) -> Iterator["ClientPod"]:
        """A pod that sends mail; it is gone afterwards."""
        container = {
            "name": "client",
            "image": CLIENT_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "volumeMounts": [_MAIL_MOUNT],
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
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
        address = self.kubectl("get", "pod", name, "--output=jsonpath={.status.podIP}")
        try:
            yield ClientPod(self, name, address)
        finally:
            self.kubectl("delete", "pod", name, "--wait=false")

    def _pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.kubectl("get", "pods", f"--selector=app={self.name}", "--output=json")
        )["items"]
        return found

    def _rolled_out(self) -> bool:
        deployment = json.loads(self.kubectl("get", "deployment", self.name, "--output=json"))
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
            "volumeMounts": [_MAIL_MOUNT, *self._mounts],
        }
        volumes = [self._mail_volume(), *self._pod.get("volumes", ())]
        labels = {"app": self.name}
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
                        "labels": {**labels, "postwarden.dev/inject": "true"},
                        "annotations": self._annotations,
                    },
                    "spec": {**self._pod, "containers": [container], "volumes": volumes},
                },
            },
        }

    def _service(self) -> dict[str, Any]:
        # NodePort and Local: clients from outside keep their address.
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mail", "namespace": self.namespace},
            "spec": {
                "type": "NodePort",
                "externalTrafficPolicy": "Local",
                "selector": {"app": self.name},
                "ports": [{"name": "smtp", "port": 25, "targetPort": "smtp"}],
            },
        }


_MAIL_MOUNT = {"name": "mail", "mountPath": "/var/mail"}

_READ_MAILS = """
import json, pathlib
found = []
for path in sorted(pathlib.Path("/var/mail/all/new").glob("*"), key=lambda each: each.stat().st_mtime_ns):
    found.append(path.read_text(errors="replace"))
print(json.dumps(found))
"""


class ClientPod:
    """address: its own, as mail servers see it."""

    def __init__(self, service: MailService, name: str, address: str) -> None:
        self._service = service
        self.name = name
        self.address = address

    def speak(
        self, kind: str, *, host: str = "mail", subject: str = "hello", recipient: str = f"bob@{DOMAIN}"
    ) -> Said:
        """One connection of that kind (see pod_client.py)."""
        told = self._service.kubectl(
            "exec",
            self.name,
            "--",
            "python3",
            "/usr/local/bin/pod_client.py",
            kind,
            host,
            _port(host),
            recipient,
            subject,
        )
        return _said(told)

    def mails(self) -> list[str]:
        """All that arrived at the service, whole, the oldest first."""
        found: list[str] = json.loads(
            self._service.kubectl("exec", self.name, "--", "python3", "-c", _READ_MAILS)
        )
        return found

    def start(
        self, kind: str, *, subject: str, host: str = "mail", recipient: str = f"bob@{DOMAIN}"
    ) -> subprocess.Popen[str]:
        """The client as a process whose stdin and stdout are pipes."""
        cluster = self._service.cluster
        return cluster.start_kubectl(
            *("exec", "--stdin", self.name, f"--namespace={self._service.namespace}", "--"),
            *("python3", "/usr/local/bin/pod_client.py", kind, host, _port(host), recipient, subject),
        )

    @contextmanager
    def held(self, subject: str, host: str = "mail") -> Iterator["HeldSession"]:
        """A session that has been greeted, and goes on when it is told to."""
        with self.start("held", subject=subject, host=host) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "greeted\n"
                yield HeldSession(process)
            finally:
                process.kill()


class HeldSession:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def deliver(self) -> Said:
        """Go on with the mail."""
        told, _ = self._process.communicate("\n", timeout=60)
        return _said(told)


class Flow:
    """Mail after mail from a client, within the `with` block. `tries`: what became of each (see pod_client.py), complete after it."""

    def __init__(self, client: ClientPod, subject: str, host: str = "mail") -> None:
        self._client = client
        self._subject = subject
        self._host = host
        self.tries: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._process = self._client.start("flow", subject=self._subject, host=self._host)
        self._thread = threading.Thread(target=self._read, name="mail-flow", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join(60)
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, more: int) -> None:
        """Until so many more mails have been tried. Raises TimeoutError."""
        wanted = len(self.tries) + more
        wait_for(lambda: len(self.tries) >= wanted, 60.0, f"{more} more mails; the last: {self.tries[-2:]}")

    @property
    def accepted(self) -> list[str]:
        """The subjects of all mails that were taken."""
        return [each["subject"] for each in self.tries if each["reply"].startswith("250")]

    @property
    def others(self) -> list[dict[str, Any]]:
        """The tries that ended otherwise."""
        return [each for each in self.tries if not each["reply"].startswith("250")]

    def arrived(self, within: float = 20.0) -> None:
        """Every mail that was accepted is in the mailbox, once. Raises AssertionError."""

        def missing() -> set[str]:
            self._subjects = [_subject(mail) for mail in self._client.mails()]
            return set(self.accepted) - set(self._subjects)

        try:
            wait_for(lambda: not missing(), within, "all accepted mail")
        except TimeoutError:
            lost = missing()
            raise AssertionError(
                f"{len(lost)} of {len(self.accepted)} accepted mails did not arrive: {sorted(lost)[:5]}"
            ) from None
        again = [each for each in self.accepted if self._subjects.count(each) > 1]
        assert not again, f"arrived more than once: {again}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.tries.append(json.loads(line))


def _port(host: str) -> str:
    """The Service's, or the sidecar's in a pod that is reached by its address."""
    return "10025" if host[:1].isdigit() else "25"


def _said(told: str) -> Said:
    answer = json.loads(told.strip().splitlines()[-1])
    return Said(tuple(answer["replies"]), answer["ended"])


def _subject(mail: str) -> str:
    return next(
        (line.removeprefix("Subject: ") for line in mail.splitlines() if line.startswith("Subject: ")), ""
    )
