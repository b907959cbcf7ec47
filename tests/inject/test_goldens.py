"""Each pod in goldens/ becomes what is written beside it."""

import copy

import pytest
from inject.golden import Golden, goldens, outcome


@pytest.mark.parametrize("golden", goldens(), ids=lambda golden: golden.name)
def test_pod_becomes_what_its_golden_says(golden: Golden) -> None:
    pod = copy.deepcopy(golden.pod)
    assert outcome(pod) == golden.wanted
    assert pod == golden.pod, "the given pod is the caller's"
