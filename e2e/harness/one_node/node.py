"""A Kubernetes cluster of one node on this machine: API server, controllers, scheduler, kubelet, kube-proxy, containerd, name server.

Contract: `with OneNode(binaries, images) as cluster:` is ready in some 7 s (2 idle cores, programs and images in the cache) and leaves
nothing behind, after a failure neither: its processes, mounts and interfaces live in network, mount and pid namespaces of their own, which
the kernel ends with their first process, and that one ends with the test run. The machine gets one interface, two routes and a cgroup; no
setting of its is changed. Pods, Services and the API server are reached from the machine by their own addresses; pods reach the machine at
`host_address`, and nothing beyond. The methods are ClusterClient's.

Needs root, cgroups of version 1, and Debian's containerd, runc, CNI plugins, nftables and iptables.
"""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harness.cluster import StartError
from harness.cluster_certificates import write_certificates
from harness.cluster_client import ApiError, ClusterClient, KubectlError
from harness.cluster_process import LOG_TAIL
from harness.images import Image
from harness.netns import DIES_WITH_US, NetworkNamespace
from harness.one_node import cgroups, image_store
from harness.one_node.configuration import KERNEL_SETTINGS, command_lines, write_configuration
from harness.one_node.layout import Layout
from harness.toolchain import cache_dir, unavailable

START_TIMEOUT = 90.0
"""Seconds until the cluster must be ready: 7 s were measured on idle cores; they may be busy."""

MOST_NODES = 16
"""At once on a machine: as many as Layout has addresses for."""

CAP_SYS_RESOURCE = 24
"""From linux/capability.h."""

_FILES = {"client-certificate": "crt", "client-key": "key"}
"""A kubeconfig's fields for a user's certificate, and how the files end."""

_MANIFEST = Path(__file__).with_name("coredns.yaml")


class OneNode(ClusterClient):
    """binaries: etcd, kube-apiserver, …, kubectl by name. images: those that pods may use, pause's and CoreDNS's too."""

    can_reach_pods = True
    """From the machine, by their addresses."""

    def __init__(self, binaries: dict[str, Path], images: Sequence[Image]) -> None:
        self.binaries = binaries
        self.images = images
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Raises StartError, with the ends of all logs."""
        with ExitStack() as cleanup:
            self.layout = _free_layout(cleanup)
            layout = self.layout
            # A test run that was killed has left them.
            cgroups.remove(layout.name)
            image_store.copy_store(self.images, layout.var_lib / "containerd")
            layout.logs.mkdir()
            authority = write_certificates(layout.directory, layout.node_address, layout.api_service)
            super().__init__(
                layout.directory, f"https://{layout.node_address}:6443", self.binaries["kubectl"]
            )
            authority.issue_to_user(
                "kubelet", f"system:node:{layout.name}", "system:nodes", addresses=[layout.node_address]
            )
            for part in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
                authority.issue_to_user(part, f"system:{part}")
            for part in ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
                user = {name: str(layout.directory / f"{part}.{end}") for name, end in _FILES.items()}
                self._write_kubeconfig(layout.directory / f"{part}.kubeconfig", user, "default")
            write_configuration(layout, may_lower_oom_score=_has_capability(CAP_SYS_RESOURCE))
            cleanup.callback(cgroups.remove, layout.name)
            self.network = cleanup.enter_context(NetworkNamespace())
            self._connect()
            self._start_init(cleanup)
            try:
                self._start()
            except (TimeoutError, ChildProcessError, KubectlError) as error:
                raise StartError(f"{error}\n{self.logs()}") from error
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def host_address(self) -> str:
        """The machine's, as pods reach its processes."""
        return self.layout.host_address

    def load_image(self, image: Image) -> None:
        """For pods with `imagePullPolicy` IfNotPresent or Never. Raises ImportFailed."""
        image_store.import_image(self.layout.containerd_socket, image)

    def kill_container(self, container: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a container; its first one takes none from within. Raises CalledProcessError."""
        address = f"--address={self.layout.containerd_socket}"
        command = [
            "ctr",
            address,
            "--namespace=k8s.io",
            "tasks",
            "kill",
            "--all",
            f"--signal={number.name}",
            container,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def logs(self) -> str:
        """The ends of all programs' logs, for a test to show what the cluster thought of it."""
        said = [f"--- init:\n{self._init_log.read_text()[-LOG_TAIL:]}"]
        for path in sorted(self.layout.logs.glob("*.log")):
            said.append(f"--- end of {path.name}:\n{path.read_bytes()[-LOG_TAIL:].decode(errors='replace')}")
        return "\n".join(said)

    def _connect(self) -> None:
        layout = self.layout
        self.network.link_to_host([f"{layout.node_address}/24"], [f"{layout.host_address}/24"])
        self.network.run(["ip", "route", "add", "default", "via", layout.host_address])
        # They vanish with the interface.
        for network in (layout.pod_network, layout.service_network):
            subprocess.run(["ip", "route", "add", network, "via", layout.node_address], check=True)

    def _start_init(self, cleanup: ExitStack) -> None:
        layout = self.layout
        plan = {
            "mounts": [[str(layout.var_lib), "/var/lib"], [str(layout.logs), "/var/log"]],
            "kernel_settings": KERNEL_SETTINGS,
            "cgroups": [str(path) for path in cgroups.make(layout.name)],
            "logs": str(layout.logs),
            "environment": {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
            },
            "commands": command_lines(layout, self.binaries),
        }
        (layout.directory / "plan.json").write_text(json.dumps(plan))
        self._init_log = layout.directory / "init.log"
        namespaces = [
            "unshare",
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ]
        script = [
            sys.executable,
            str(Path(__file__).with_name("init.py")),
            str(layout.directory / "plan.json"),
        ]
        with self._init_log.open("wb") as log:
            self._init = subprocess.Popen(
                [*DIES_WITH_US, *self.network.command([*namespaces, *script])],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
            )
        cleanup.callback(self._end)

    def _end(self) -> None:
        self._init.kill()
        self._init.wait()
        assert self._init.stdin is not None
        self._init.stdin.close()

    def _tell(self, *programs: str) -> None:
        assert self._init.stdin is not None
        self._init.stdin.write("".join(f"{program}\n" for program in programs))
        self._init.stdin.flush()

    def _start(self) -> None:
        self._tell("containerd", "etcd", "kube-apiserver")
        end = time.monotonic() + START_TIMEOUT
        self._wait(self._is_ready, end, "the API server")
        self._tell("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
        self.apply(_MANIFEST.read_text().replace("DNS_SERVICE", self.layout.dns_service))
        self._wait(self._has_node, end, "the node")
        self._wait(self._has_name_server, end, "the cluster's name server")

    def _wait(self, ready: Callable[[], bool], end: float, what: str) -> None:
        while not ready():
            ended = [line for line in self._init_log.read_text().splitlines() if " exited: " in line]
            if ended or self._init.poll() is not None:
                raise ChildProcessError(
                    f"while waiting for {what}: {'; '.join(ended) or 'the first process ended'}"
                )
            if time.monotonic() > end:
                raise TimeoutError(f"waited {START_TIMEOUT:g} s in vain for {what}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            self.request("GET", "/readyz")
            self.request("GET", "/api/v1/namespaces/kube-system")
        except (ApiError, OSError):
            return False
        return True

    def _has_node(self) -> bool:
        """Ready, and without the taints of a new node: a pod that meets them is looked at again seconds later."""
        try:
            node = self.request("GET", f"/api/v1/nodes/{self.layout.name}")
        except ApiError:
            return False
        ready = [each["status"] for each in node["status"].get("conditions", ()) if each["type"] == "Ready"]
        return ready == ["True"] and not node["spec"].get("taints")

    def _has_name_server(self) -> bool:
        deployment = self.request("GET", "/apis/apps/v1/namespaces/kube-system/deployments/coredns")
        return bool(deployment["status"].get("readyReplicas"))


def _free_layout(cleanup: ExitStack) -> Layout:
    """The first that no other test run has. Its lock is freed, and its folder removed, with `cleanup`."""
    nodes = cache_dir() / "nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    for index in range(MOST_NODES):
        # One file open for the whole run; the kernel frees the lock of a run that was killed.
        lock: IO[str] = (nodes / f"{index}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        cleanup.callback(lock.close)
        layout = Layout(index, nodes / str(index))
        shutil.rmtree(layout.directory, ignore_errors=True)
        cleanup.callback(shutil.rmtree, layout.directory, ignore_errors=True)
        layout.directory.mkdir()
        break
    else:
        unavailable(f"a free place in {nodes}: {MOST_NODES} test runs have a node there")
    return layout


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)
