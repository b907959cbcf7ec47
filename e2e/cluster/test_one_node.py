"""The cluster of the tests itself: what the other tests take for granted of it."""

import subprocess

from harness.one_node.node import OneNode


def test_pods_run_and_find_each_other_by_name(one_node: OneNode) -> None:
    print(one_node.kubectl("get", "pods", "-A", "-o", "wide"))
    print(subprocess.run(["dmesg"], capture_output=True, text=True).stdout[-500:])
