"""The benchmark's cases: their policies are good, their systems are there, and all systems are asked the same."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from postwarden_operator.policy import parse_policy
from ruamel.yaml import YAML

from bench import cases, systems
from bench.cases.case import Case
from bench.load_generator import SOURCES
from bench.networks import COUNT, clients, networks
from bench.systems.pod import policy
from bench.systems.postscreen import cache_lines

ALL = [pytest.param(case, id=name) for name, case in cases.ALL.items()]


@pytest.mark.parametrize("case", ALL)
def test_a_cases_policy_is_good_and_never_lets_a_limit_decide(case: Case) -> None:
    document = YAML(typ="safe").load(policy(case.spec.replace("{resolver}", "127.0.0.1:53")))
    document["metadata"] |= {"namespace": "default", "uid": "1"}
    spec = parse_policy(document, strict=True).spec
    assert spec.limits.screening > case.load.concurrency
    assert spec.access.my_networks == (), "the clients are of loopback"


@pytest.mark.parametrize("case", ALL)
def test_a_cases_systems_and_peers_are_there(case: Case) -> None:
    assert {*case.systems, *(aim.peer for aim in case.aims)} <= systems.ALL.keys()
    assert case.measured in case.systems
    assert {aim.peer for aim in case.aims} <= {*case.systems}
    assert case.modes.keys() <= {*case.systems}


def test_the_list_is_sorted_disjoint_and_has_every_client() -> None:
    found = [ipaddress.IPv4Network(each) for each in networks()]
    assert len(found) == COUNT
    assert all(one.broadcast_address < other.network_address for one, other in pairwise(found))
    assert {*clients()} <= {*networks()}
    assert len({*clients()}) == SOURCES >= 10_000
    assert networks() == networks()


def test_known_clients_are_written_as_postscreen_writes_them() -> None:
    assert cache_lines(["127.64.0.0", "127.64.0.1"], 1795484295) == (
        "127.64.0.0 1795484295;1;1;1;1\n127.64.0.1 1795484295;1;1;1;1\n"
    )
