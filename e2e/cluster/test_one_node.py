"""The cluster of the tests itself: what it leaves of itself on the machine."""

import subprocess
from pathlib import Path

import pytest
from harness.one_node import cgroups
from harness.one_node.configuration import KERNEL_SETTINGS
from harness.one_node.node import OneNode


def test_nothing_is_left_of_a_node_even_after_a_failure(one_node: OneNode) -> None:
    before = state(one_node)
    with (
        pytest.raises(RuntimeError, match="a test fails"),
        OneNode(one_node.binaries, one_node.images) as second,
    ):
        assert second.layout.index != one_node.layout.index
        assert second.get("node", second.layout.name)["status"]["nodeInfo"]["kubeletVersion"].startswith(
            "v1."
        )
        directory, network = second.layout.directory, second.layout.pod_network
        assert network in routes()
        raise RuntimeError("a test fails")
    assert not directory.exists()
    assert network not in routes()
    assert not [path for path in cgroups.hierarchies() if (path / second.layout.name).exists()]
    assert state(one_node) == before


def routes() -> str:
    return subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout


def state(cluster: OneNode) -> dict[str, str]:
    """The machine's settings that a kubelet changes elsewhere."""
    assert cluster.layout.pod_network in routes()
    return {name: Path("/proc/sys", name).read_text() for name in KERNEL_SETTINGS}
