"""When clients' addresses count as lost, and when no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.engine.record import Alike, Record, Verdict, Visit
from postwarden_sidecar.supervisor.suspicion import BUCKET, FEWEST, MANY_NAMES, WINDOW, Suspicion, gateways

NODE, PROXY, PUBLIC = "10.0.0.1", "192.168.9.9", "203.0.113.5"


def records(address: str, count: int, *, names: int = 1, verdict: Verdict = Verdict.REJECTED) -> list[Record]:
    """By so many names in HELO; 0: none was said."""
    made = []
    for number in range(count):
        record = Record(0.0, 1.0, verdict, "it was so", address, 4000, "192.0.2.25", 25, address, 4000, False)
        record.helo = f"client-{number % names}.example" if names else ""
        made.append(record)
    return made


@pytest.fixture
def suspicion() -> Suspicion:
    return Suspicion({NODE})


def test_nearly_all_from_the_node_is_suspicious_by_whatever_names(suspicion: Suspicion) -> None:
    assert not suspicion.observe(records(NODE, FEWEST - 1, names=0), 0.0)
    assert suspicion.observe(records(NODE, 1), 1.0)
    assert suspicion.address == NODE
    assert (
        suspicion.detail
        == f"100 % of the last {FEWEST} connections come from {NODE}, the node's or the gateway's"
    )
    assert not suspicion.observe(records(NODE, 1), 2.0), "told once"


def test_a_private_address_is_a_proxys_if_it_speaks_for_many(suspicion: Suspicion) -> None:
    assert not suspicion.observe(records(PROXY, 500, names=MANY_NAMES - 1), 0.0)
    assert suspicion.observe(records(PROXY, 10, names=MANY_NAMES), 1.0)
    assert suspicion.address == PROXY


@pytest.mark.parametrize("address", [PUBLIC, "127.0.0.1", "::1", "2001:db8::1", "198.51.100.7"])
def test_a_client_of_the_internet_or_of_this_machine_is_none(suspicion: Suspicion, address: str) -> None:
    assert not suspicion.observe(records(address, 5000, names=500), 0.0)


@pytest.mark.parametrize("verdict", [Verdict.DROPPED, Verdict.PASS_OLD, Verdict.ALLOWLISTED])
@pytest.mark.parametrize("address", [NODE, PROXY, PUBLIC])
def test_clients_whose_record_is_the_same_count_one_by_one(verdict: Verdict, address: str) -> None:
    found = []
    for together in (False, True):
        suspicion, observed = Suspicion({NODE}), records(address, FEWEST, names=0, verdict=verdict)
        visits = [Visit(each.started, address, 4000, "192.0.2.25", 25) for each in observed]
        suspicion.observe([Alike(observed[0], visits)] if together else observed, 0.0)
        found.append((suspicion.address, suspicion.detail))
    assert found[0] == found[1]


@pytest.mark.parametrize("verdict", [Verdict.HANGUP, Verdict.ERROR])
def test_probes_of_balancers_do_not_count(suspicion: Suspicion, verdict: Verdict) -> None:
    assert not suspicion.observe(records(NODE, 1000, verdict=verdict), 0.0)
    assert not suspicion.observe(records(PUBLIC, 20), 0.0)


def test_whom_the_policy_permits_counts_from_the_node_only(suspicion: Suspicion) -> None:
    assert not suspicion.observe(records(PROXY, 1000, names=50, verdict=Verdict.ALLOWLISTED), 0.0)
    assert suspicion.observe(records(NODE, 1000, verdict=Verdict.ALLOWLISTED), 1.0)


def test_some_others_do_not_hide_it_and_many_end_it(suspicion: Suspicion) -> None:
    assert suspicion.observe(records(NODE, 960) + records(PUBLIC, 40), 0.0)
    assert not suspicion.observe(records(PUBLIC, 150), 1.0), "neither nearly all, nor much less"
    assert suspicion.address == NODE
    assert suspicion.observe(records(PUBLIC, 200), 2.0)
    assert (suspicion.address, suspicion.detail) == ("", "")


def test_only_the_last_ten_minutes_count(suspicion: Suspicion) -> None:
    suspicion.observe(records(PUBLIC, 1000), 0.0)
    assert not suspicion.observe(records(NODE, 1000), 599.0)
    assert suspicion.observe(records(NODE, 1000), 660.0)


def test_silence_changes_nothing(suspicion: Suspicion) -> None:
    suspicion.observe(records(NODE, FEWEST), 0.0)
    assert not suspicion.observe(records(PUBLIC, 5), 10_000.0)
    assert suspicion.address == NODE


def test_few_addresses_are_remembered(suspicion: Suspicion) -> None:
    for number in range(5000):
        suspicion.observe(records(f"10.1.{number // 250}.{number % 250}", 1, names=1), float(number))
    assert len(suspicion._names) <= 64
    assert len(suspicion._buckets) <= 11


@given(
    st.lists(
        st.tuples(st.sampled_from([NODE, PROXY, PUBLIC]), st.integers(1, 200), st.floats(0, 1000)),
        max_size=20,
    )
)
def test_what_is_suspected_had_nearly_all_and_can_be_a_proxys(batches: list[tuple[str, int, float]]) -> None:
    suspicion, now = Suspicion({NODE}), 0.0
    for address, count, pause in batches:
        now += pause
        before = suspicion.address
        changed = suspicion.observe(records(address, count, names=count), now)
        assert changed == (suspicion.address != before)
        assert bool(suspicion.address) == bool(suspicion.detail)
        assert suspicion.address != PUBLIC
        if changed and suspicion.address and now < WINDOW * BUCKET:
            assert suspicion.address == address, (
                "while nothing is forgotten, only more of it makes it nearly all"
            )


def test_gateways_are_read_as_the_kernel_writes_them() -> None:
    header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    text = header + "eth0\t00000000\t0101F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    text += "eth0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    assert gateways(text) == {"10.244.1.1"}
    assert gateways(header) == gateways("") == frozenset()
