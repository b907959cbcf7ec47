"""An administrator of a cluster that has an API server and nothing else: kubectl, REST, objects, tokens.

Contract: no controller-manager and no kubelet run. So this client makes the ServiceAccount `default` of a
namespace it creates, and `create_pod` reports the pod's containers as running. Namespaces are never cleaned
up: use a new one for each test. Aggregated ClusterRoles (view, edit, admin) stay empty: grant others. REST
goes through the standard library, for the project's own Kubernetes client is what is under test.
"""

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

AUDIENCE = "postwarden.dev"
"""The audience of the token by which a sidecar proves its pod."""

SHORTEST_TOKEN = 600
"""Seconds: the API server refuses to issue tokens that live shorter."""

POLL_INTERVAL = 0.05
"""Seconds between two looks of `wait_for`."""

KUBECTL_TIMEOUT = 30.0
"""Seconds for one call of kubectl; an ordinary one takes 0.1 s."""

T = TypeVar("T")
Json = Mapping[str, Any]


class ApiError(Exception):
    """The API server's answer was an error: `status` is HTTP's, the text is the server's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubectlError(Exception):
    """kubectl exited with an error; the text holds its arguments and all that it wrote."""


@dataclass(frozen=True)
class Pod:
    """A pod object that the API server has accepted."""

    name: str
    namespace: str
    uid: str
    service_account: str


def wait_for(predicate: Callable[[], T], timeout: float = 10.0, what: str = "the condition") -> T:
    """The first true value of `predicate`, asked every 50 ms.

    Raises TimeoutError after `timeout` seconds, naming `what` and the last value. An exception of the
    predicate is passed on.
    """
    end = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}; last value: {value!r}")
        time.sleep(POLL_INTERVAL)
    return value


class ClusterClient:
    """Acts as the group system:masters, with the certificates in `directory` (see cluster_certificates)."""

    def __init__(self, directory: Path, url: str, kubectl_binary: Path) -> None:
        self.directory = directory
        self.url = url
        self.ca_file = directory / "ca.crt"
        self.kubeconfig = directory / "admin.kubeconfig"
        self._kubectl_binary = kubectl_binary
        self._tls = ssl.create_default_context(cafile=str(self.ca_file))
        self._tls.load_cert_chain(directory / "admin.crt", directory / "admin.key")
        user = {
            "client-certificate": str(directory / "admin.crt"),
            "client-key": str(directory / "admin.key"),
        }
        self._write_kubeconfig(self.kubeconfig, user, "default")

    def logs(self) -> str:
        """What its programs say, as far as that can be had: for a failure's text."""
        return ""

    def request(
        self, method: str, path: str, body: Json | None = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One REST request; the decoded answer, or {} if it is no JSON object. Raises ApiError, OSError."""
        host = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            host.hostname or "", host.port, context=self._tls, timeout=10.0
        )
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                method, path, data, {"Content-Type": content_type, "Accept": "application/json"}
            )
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        answer = json.loads(text) if is_json else None
        if response.status >= 400:
            raise ApiError(response.status, answer["message"] if isinstance(answer, dict) else text)
        return answer if isinstance(answer, dict) else {}

    def kubectl(self, *args: str | Path, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """kubectl's stdout, as the administrator or whom `kubeconfig` names. Raises KubectlError."""
        done = subprocess.run(
            [self._kubectl_binary, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_TIMEOUT,
            env=self._kubectl_environment(kubeconfig),
        )
        if done.returncode != 0:
            command = " ".join(map(str, args))
            raise KubectlError(f"kubectl {command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, command: str, folder: Path) -> str:
        """The stdout of a command line as documentation has it, run in `folder`, with kubectl on its PATH. Raises KubectlError."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=KUBECTL_TIMEOUT,
            env=self.shell_environment(),
        )
        if done.returncode != 0:
            raise KubectlError(f"`{command}` exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell_environment(self) -> dict[str, str]:
        """For a shell whose kubectl is this cluster's administrator."""
        environment = self._kubectl_environment(None)
        return environment | {"PATH": f"{self._kubectl_binary.parent}:{environment['PATH']}"}

    def start_kubectl(self, *args: str | Path) -> subprocess.Popen[str]:
        """kubectl as a process that goes on, with pipes for stdin and stdout; end it."""
        return subprocess.Popen(
            [self._kubectl_binary, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._kubectl_environment(None),
        )

    def _kubectl_environment(self, kubeconfig: Path | None) -> dict[str, str]:
        # A home of its own: kubectl must not find the user's settings, nor leave its cache with them.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.directory),
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
        }

    def apply(self, *manifests: str | Path | Json) -> str:
        """`kubectl apply` of YAML texts, files or objects. CRDs are established on return.

        Raises KubectlError.
        """
        documents = [_document(manifest) for manifest in manifests]
        applied = self.kubectl("apply", "--filename=-", "--output=name", stdin="\n---\n".join(documents))
        crds = [name for name in applied.split() if name.startswith("customresourcedefinition.")]
        if crds:
            self.kubectl("wait", "--for=condition=Established", "--timeout=20s", *crds)
        return applied

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object of any kind, as kubectl names kinds. Raises KubectlError, also where it is not there."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json")
        )
        return found

    def pod(self, name: str, namespace: str) -> dict[str, Any]:
        """The object. By REST: kubectl takes a tenth of a second of a core, and who waits looks again and again. Raises ApiError."""
        return self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The objects with these labels, by REST. Raises ApiError."""
        query = urlencode({"labelSelector": selector})
        found: list[dict[str, Any]] = self.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")[
            "items"
        ]
        return found

    def deployment(self, name: str, namespace: str) -> dict[str, Any]:
        """The object, by REST. Raises ApiError."""
        return self.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")

    def events_of(self, name: str, namespace: str) -> str:
        """What events say of an object, a line for each, by REST. Raises ApiError."""
        query = urlencode({"fieldSelector": f"involvedObject.name={name}"})
        events = self.request("GET", f"/api/v1/namespaces/{namespace}/events?{query}")["items"]
        return "\n".join(each.get("message", "") for each in events)

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A namespace with its ServiceAccount `default`. Raises ApiError (409 if it exists)."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        self.ensure_service_account("default", name)

    def ensure_service_account(self, name: str, namespace: str = "default") -> None:
        """Create the ServiceAccount if it is not there."""
        try:
            self.request(
                "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}}
            )
        except ApiError as error:
            if error.status != http.client.CONFLICT:
                raise

    def create_pod(
        self,
        name: str,
        namespace: str = "default",
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        service_account: str = "default",
        spec: Json | None = None,
        ip: str = "127.0.0.1",
    ) -> Pod:
        """A pod whose containers run and are ready, as kubelet would report it; no process is behind it.

        `spec` [one container `mta`] is completed by the ServiceAccount, which is created if missing. Init
        containers that are no sidecars have run to their end. Without `nodeName` a deleted pod is gone at
        once. Raises ApiError.
        """
        self.ensure_service_account(service_account, namespace)
        pods = f"/api/v1/namespaces/{namespace}/pods"
        created = self.request(
            "POST",
            pods,
            {
                "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
                "spec": {
                    "containers": [{"name": "mta", "image": "mta"}],
                    **(spec or {}),
                    "serviceAccountName": service_account,
                },
            },
        )
        status = {"status": _running_status(created["spec"], ip)}
        self.request("PATCH", f"{pods}/{name}/status", status, content_type="application/merge-patch+json")
        return Pod(name, namespace, created["metadata"]["uid"], service_account)

    def delete_pod(self, pod: Pod) -> None:
        """Delete it without grace. Raises ApiError (404 if it is gone, 409 if another pod has its name)."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        self.request("DELETE", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}", options)

    def bound_token(self, pod: Pod, audience: str = AUDIENCE, seconds: int = SHORTEST_TOKEN) -> str:
        """A token of the pod's ServiceAccount that is bound to the pod, like a projected volume's.

        `seconds` of life are at least 600 (SHORTEST_TOKEN). Raises ApiError.
        """
        bound_to = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
        return self._token(pod.service_account, pod.namespace, [audience], seconds, bound_to)

    def unbound_token(
        self,
        service_account: str,
        namespace: str = "default",
        audience: str = AUDIENCE,
        seconds: int = SHORTEST_TOKEN,
    ) -> str:
        """A token bound to no pod, like `kubectl create token`'s. Raises ApiError (404: no such account)."""
        return self._token(service_account, namespace, [audience], seconds, None)

    def review_token(self, token: str, audience: str = AUDIENCE) -> dict[str, Any]:
        """The status of a TokenReview: `authenticated`, `audiences`, `user` {username, extra}, `error`."""
        review = {"spec": {"token": token, "audiences": [audience]}}
        status: dict[str, Any] = self.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)[
            "status"
        ]
        return status

    def kubeconfig_for(self, service_account: str, namespace: str = "default", seconds: int = 3600) -> Path:
        """A kubeconfig of the ServiceAccount (created if missing), good for `seconds`, with RBAC's rights."""
        self.ensure_service_account(service_account, namespace)
        # No audience named: the API server's own.
        token = self._token(service_account, namespace, [], seconds, None)
        path = self.directory / f"{namespace}.{service_account}.kubeconfig"
        self._write_kubeconfig(path, {"token": token}, namespace)
        return path

    def _token(
        self,
        service_account: str,
        namespace: str,
        audiences: Sequence[str],
        seconds: int,
        bound_to: Json | None,
    ) -> str:
        spec = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound_to}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        token: str = self.request("POST", path, {"spec": spec})["status"]["token"]
        return token

    def _write_kubeconfig(self, path: Path, user: Json, namespace: str) -> None:
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)},
                        }
                    ],
                    "users": [{"name": "test", "user": user}],
                    "contexts": [
                        {
                            "name": "test",
                            "context": {"cluster": "test", "user": "test", "namespace": namespace},
                        }
                    ],
                }
            )
        )


def _document(manifest: str | Path | Json) -> str:
    if isinstance(manifest, str):
        return manifest
    return manifest.read_text() if isinstance(manifest, Path) else json.dumps(manifest)


def _running_status(spec: Json, ip: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = {"running": {"startedAt": now}}
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}

    def of(container: Json, runs: bool) -> dict[str, Any]:
        common = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        return {**common, "ready": True, "started": runs, "state": running if runs else ended}

    conditions = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": now,
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in conditions],
        "containerStatuses": [of(container, True) for container in spec["containers"]],
        "initContainerStatuses": [
            of(container, container.get("restartPolicy") == "Always")
            for container in spec.get("initContainers", [])
        ],
    }
