"""The configuration of a node's programs: files and command lines.

All use their ordinary paths (/var/lib/kubelet, /run/containerd, …), for the node has a /var/lib and a /run of its own. What differs from
the defaults says why.
"""

import json
from pathlib import Path
from typing import Any

from harness.cluster import ISSUER
from harness.one_node.layout import Layout

PAUSE_IMAGE = "localhost/postwarden-pause:test"

KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet wants of /proc/sys and would write (pkg/kubelet/cm): these are the machine's, so it is shown files with its own values."""

_PERIOD = "0s"


def write_configuration(layout: Layout, *, may_lower_oom_score: bool) -> None:
    """Write the files that `command_lines` name. `may_lower_oom_score`: the test run has CAP_SYS_RESOURCE."""
    directory = layout.directory
    (directory / "cni").mkdir()
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (directory / "cni" / "10-node.conflist").write_text(json.dumps(_network(layout)))
    (directory / "containerd.toml").write_text(_containerd(layout, may_lower_oom_score))
    (directory / "kubelet.yaml").write_text(json.dumps(_kubelet(layout)))
    (directory / "kube-proxy.yaml").write_text(json.dumps(_kube_proxy(layout)))


def idle_containerd(store: Path, run: Path) -> str:
    """The configuration of a containerd that runs nothing: it fills the image store."""
    return f"""version = 2
root = "{store}"
state = "{run}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", {_OTHER_SNAPSHOTTERS}]
[grpc]
  address = "{run}/socket"
[ttrpc]
  address = "{run}/socket.ttrpc"
"""


_OTHER_SNAPSHOTTERS = ", ".join(
    f'"io.containerd.snapshotter.v1.{name}"' for name in ("aufs", "btrfs", "devmapper", "zfs")
)


def _network(layout: Layout) -> dict[str, Any]:
    networks = [layout.pod_network]
    if Path("/proc/sys/net/ipv6").exists():
        networks.append(layout.pod_network_v6)
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": network}] for network in networks],
            "dataDir": "/run/cni-ipam",
        },
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd(layout: Layout, may_lower_oom_score: bool) -> str:
    # Without CAP_SYS_RESOURCE no process may lower its oom_score_adj, and runc fails where it is asked to.
    restrict = "false" if may_lower_oom_score else "true"
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{_OTHER_SNAPSHOTTERS}]
[grpc]
  address = "{layout.containerd_socket}"
[ttrpc]
  address = "/run/containerd/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = {restrict}
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def _kubelet(layout: Layout) -> dict[str, Any]:
    certificates = layout.directory
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{certificates}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{certificates}/kubelet.crt",
        "tlsPrivateKeyFile": f"{certificates}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [layout.dns_service],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{layout.directory}/resolv.conf",
        # The machine's disk is not ours to tidy up, nor is its memory all ours.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "maxPods": 100,
        # Else in /usr/libexec, which is the machine's.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def _kube_proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{layout.directory}/kube-proxy.kubeconfig"},
        "clusterCIDR": layout.pod_network,
        "hostnameOverride": layout.name,
        # Zero: leave them alone. A network namespace other than the first may not write these settings.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": _PERIOD,
            "tcpCloseWaitTimeout": _PERIOD,
        },
        "nftables": {"minSyncPeriod": _PERIOD},
    }


def command_lines(layout: Layout, binaries: dict[str, Path]) -> dict[str, list[str]]:
    """Of every program, by its name; `binaries` are those that are not Debian's."""
    d = layout.directory
    volume_plugins = "/var/lib/kubelet/volume-plugins"
    lines: dict[str, list[str]] = {
        # On a tmpfs: nothing waits for a disk.
        "etcd": [
            "--data-dir=/run/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={layout.node_address}",
            "--secure-port=6443",
            "--cert-dir=/run/kube-apiserver",
            f"--tls-cert-file={d}/apiserver.crt",
            f"--tls-private-key-file={d}/apiserver.key",
            f"--client-ca-file={d}/ca.crt",
            f"--service-cluster-ip-range={layout.service_network}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={d}/service-account.pub",
            f"--service-account-signing-key-file={d}/service-account.key",
            f"--kubelet-client-certificate={d}/admin.crt",
            f"--kubelet-client-key={d}/admin.key",
            f"--kubelet-certificate-authority={d}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
        ],
        "kube-controller-manager": [
            f"--kubeconfig={d}/kube-controller-manager.kubeconfig",
            f"--authentication-kubeconfig={d}/kube-controller-manager.kubeconfig",
            f"--authorization-kubeconfig={d}/kube-controller-manager.kubeconfig",
            f"--service-account-private-key-file={d}/service-account.key",
            f"--root-ca-file={d}/ca.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--node-monitor-period=1s",
            # With the client's ordinary limits its many controllers wait for one another for 5 s at the start.
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            f"--flex-volume-plugin-dir={volume_plugins}",
        ],
        "kube-scheduler": [
            f"--kubeconfig={d}/kube-scheduler.kubeconfig",
            f"--authentication-kubeconfig={d}/kube-scheduler.kubeconfig",
            f"--authorization-kubeconfig={d}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ],
        "kubelet": [
            f"--config={d}/kubelet.yaml",
            f"--kubeconfig={d}/kubelet.kubeconfig",
            f"--hostname-override={layout.name}",
            f"--node-ip={layout.node_address}",
        ],
        "kube-proxy": [f"--config={d}/kube-proxy.yaml"],
    }
    commands = {name: [str(binaries[name]), *arguments] for name, arguments in lines.items()}
    return {"containerd": ["containerd", "--config", f"{d}/containerd.toml"], **commands}
