"""The cluster of the tests itself: what it leaves of itself on the machine."""

import subprocess
from pathlib import Path

import pytest
from harness.one_node import cgroups
from harness.one_node.configuration import KERNEL_SETTINGS
from harness.one_node.node import OneNode


def test_nothing_is_left_of_a_node_even_after_a_failure(one_node: OneNode) -> None:
    before = state(one_node)
    second = OneNode(one_node.binaries, one_node.images)
    with pytest.raises(RuntimeError, match="a test fails"):
        use_and_fail(second, one_node)
    layout = second.layout
    assert not layout.directory.exists()
    assert layout.pod_network not in routes()
    assert not [path for path in cgroups.hierarchies() if (path / layout.name).exists()]
    assert state(one_node) == before


def use_and_fail(second: OneNode, first: OneNode) -> None:
    with second:
        assert second.layout.index != first.layout.index
        assert second.get("node", second.layout.name)["status"]["nodeInfo"]["kubeletVersion"].startswith(
            "v1."
        )
        assert second.layout.pod_network in routes()
        raise RuntimeError("a test fails")


def routes() -> str:
    return subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout


def state(cluster: OneNode) -> dict[str, str]:
    """The machine's settings that a kubelet changes elsewhere."""
    assert cluster.layout.pod_network in routes()
    return {name: Path("/proc/sys", name).read_text() for name in KERNEL_SETTINGS}
