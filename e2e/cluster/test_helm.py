"""`helm test` in a real cluster: a pod of the operator's image asks the operator and its webhook, by their Service."""

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.cluster_tools import helm, helm3
from harness.helm_test import assert_helm_test_passes
from harness.one_node.fixtures import RealCluster


@pytest.mark.parametrize("program", [helm, helm3])
def test_operator_and_webhook_answer(installed: RealCluster, program: Callable[[], Path]) -> None:
    assert_helm_test_passes(installed, program)
