"""Where everything of one node is: its addresses, its names, its files.

Several nodes may run on a machine, each with its own index; all else follows from that. The networks are private ones (RFC 1918) that
only the machine itself routes.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """index: 0 to 15. directory: of this run, on the file system of the cache (the image store is hard-linked)."""

    index: int
    directory: Path

    @property
    def name(self) -> str:
        """Of the node, and of its cgroup."""
        return f"postwarden-node-{self.index}"

    @property
    def host_address(self) -> str:
        """The machine's, as pods and the API server reach its processes."""
        return f"10.250.{self.index}.1"

    @property
    def node_address(self) -> str:
        return f"10.250.{self.index}.2"

    @property
    def pod_network(self) -> str:
        return f"10.251.{self.index}.0/24"

    @property
    def pod_network_v6(self) -> str:
        """Of this machine's pods alone (RFC 4193): Services and the node itself have IPv4 only."""
        return f"fd00:251:{self.index:x}::/64"

    @property
    def service_network(self) -> str:
        return f"10.252.{self.index}.0/24"

    @property
    def api_service(self) -> str:
        """The ClusterIP of the Service `kubernetes`: the first of the network, by Kubernetes' own rule."""
        return f"10.252.{self.index}.1"

    @property
    def dns_service(self) -> str:
        return f"10.252.{self.index}.10"

    @property
    def containerd_socket(self) -> Path:
        """Seen by the machine too: `ctr` brings images from there."""
        return self.directory / "containerd.sock"

    @property
    def var_lib(self) -> Path:
        """The node's /var/lib."""
        return self.directory / "var-lib"

    @property
    def logs(self) -> Path:
        """The node's /var/log, and the logs of its programs."""
        return self.directory / "var-log"
