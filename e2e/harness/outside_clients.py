"""A network beyond the tests' own node, whose clients have addresses of their own: a fixture for the tests that import it."""

from collections.abc import Iterator

import pytest

from harness.mail_cluster import MailService
from harness.netns import NetworkNamespace
from harness.one_node.fixtures import RealCluster
from harness.one_node.node import OneNode

GATEWAY, FRIEND, ZOMBIE = "198.51.100.1", "198.51.100.7", "198.51.100.66"
"""Of a network that is for documentation (RFC 5737)."""


@pytest.fixture
def outside(real_cluster: RealCluster) -> Iterator[NetworkNamespace]:
    """Linked to the node; others are skipped."""
    if not isinstance(real_cluster, OneNode):
        pytest.skip("clients outside pods can be had beside the tests' own node only")
    with NetworkNamespace() as network:
        real_cluster.network.link(network, [f"{GATEWAY}/24"], [f"{FRIEND}/24", f"{ZOMBIE}/24"])
        network.run(["ip", "route", "add", "default", "via", GATEWAY])
        yield network


def node_of(service: MailService) -> OneNode:
    """Of a test with the fixture `outside`."""
    assert isinstance(service.cluster, OneNode)
    return service.cluster
