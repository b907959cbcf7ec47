"""A worker's block lists: hits wait for the zone's probe and count by what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from dnsbl.name_server import NameServer, Zone
from net.bench import make_rules
from postwarden_sidecar.dns import zone_health
from postwarden_sidecar.dns.zone_health import ZoneState
from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.ipc.messages import Resolvers, ZoneProbed
from postwarden_sidecar.ipc.page import Page
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite
from postwarden_sidecar.worker.blocklists import BlocklistInquiry, Blocklists

LIMIT = 10.0  # seconds; a test that gets here fails
BL, WL = "bl.example", "wl.example"
CLIENT = "203.0.113.9"
HIT = {"9.113.0.203": ["127.0.0.2"]}


def settings(*zones: str, resolvers: tuple[str, ...] = (), timeout: float = 5.0) -> Dnsbl:
    sites = tuple(DnsblSite(zone, zone, None, 1, zone) for zone in zones)
    return Dnsbl(resolvers=resolvers, sites=sites, timeout=timeout)


class Bench:
    """The lists in the test's own thread; the test is the supervisor."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.page = Page.create()
        self.supervised = True
        self.probes: list[str] = []
        self.descriptors = Descriptors(4096)
        self.lists = Blocklists(self.loop, self.descriptors, self.page.lookups, 0, self.want_probe)
        self.answers: list[DnsblAnswer] = []

    def want_probe(self, zone: str) -> bool:
        self.probes.append(zone)
        return self.supervised

    def query(self, lists: Dnsbl) -> BlocklistInquiry:
        self.loop.now = time.monotonic()
        return self.lists.query(CLIENT, lists, self.answers.append)

    def probed(self, zone: str, state: ZoneState) -> None:
        self.lists.receive_probe(ZoneProbed(zone, state.value))

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline
            self.loop.turn()

    def turn_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.loop.wake()
            self.loop.turn()

    @property
    def outcomes(self) -> list[tuple[str, str, bool, int]]:
        return sorted(
            (answer.zone, answer.outcome, answer.failed, len(answer.addresses)) for answer in self.answers
        )


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.lists.client.close()
    bench.loop.wake()
    bench.loop.turn()
    assert bench.descriptors.opened == 0
    bench.loop.release()
    bench.page.close()
    os.close(bench.page.descriptor)


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer({BL: Zone(HIT), WL: Zone()}) as server:
        yield server


def test_a_hit_waits_for_the_probe_and_counts_if_the_zone_is_well(bench: Bench, server: NameServer) -> None:
    lists = settings(BL, WL, resolvers=(server.target,))
    bench.query(lists)
    bench.turn_until(lambda: len(bench.answers) == 1 and BL in bench.probes)
    assert bench.outcomes == [(WL, "not_listed", False, 0)]
    bench.turn_for(0.05)
    assert len(bench.answers) == 1
    bench.probed(BL, ZoneState.HEALTHY)
    assert bench.outcomes == [(BL, "listed", False, 1), (WL, "not_listed", False, 0)]
    bench.answers.clear()
    bench.query(lists)
    bench.turn_until(lambda: len(bench.answers) == 2)
    assert bench.outcomes[0] == (BL, "listed", False, 1), "the probe holds"
    assert bench.probes.count(BL) == 1


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (ZoneState.LISTS_WORLD, "lists_world"),
        (ZoneState.UNREACHABLE, "unprobed"),
        (ZoneState.BLOCKED, "unprobed"),
    ],
)
def test_a_hit_in_a_zone_that_is_unwell_never_counts(
    bench: Bench, server: NameServer, state: ZoneState, outcome: str
) -> None:
    lists = settings(BL, resolvers=(server.target,))
    bench.query(lists)
    bench.turn_until(lambda: bench.probes)
    bench.probed(BL, state)
    bench.query(lists)
    bench.turn_until(lambda: len(bench.answers) == 2)
    assert bench.outcomes == [(BL, outcome, True, 0)] * 2
    assert bench.probes == [BL]


def test_a_zone_counts_again_after_the_next_probe_found_it_well(
    bench: Bench, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone_health, "BAD_FOR", 0.0)
    bench.probed(BL, ZoneState.LISTS_WORLD)
    bench.query(settings(BL, resolvers=(server.target,)))
    bench.turn_until(lambda: bench.probes)
    bench.probed(BL, ZoneState.HEALTHY)
    bench.turn_until(lambda: bench.outcomes)
    assert bench.outcomes == [(BL, "listed", False, 1)]


def test_a_probe_that_does_not_come_in_time_lets_the_hit_count_for_nothing(
    bench: Bench, server: NameServer
) -> None:
    bench.query(settings(BL, resolvers=(server.target,), timeout=0.3))
    bench.turn_until(lambda: bench.answers)
    assert bench.outcomes == [(BL, "unprobed", True, 0)]
    bench.probed(BL, ZoneState.HEALTHY)
    assert len(bench.answers) == 1, "once a zone"


def test_without_a_supervisor_hits_count_for_nothing_at_once(bench: Bench, server: NameServer) -> None:
    bench.supervised = False
    bench.query(settings(BL, resolvers=(server.target,)))
    bench.turn_until(lambda: bench.answers)
    assert bench.outcomes == [(BL, "unprobed", True, 0)]


def test_who_is_gone_gets_no_answer_from_lists_or_probes(bench: Bench, server: NameServer) -> None:
    lists = settings(BL, resolvers=(server.target,))
    parked = bench.query(lists)
    bench.turn_until(lambda: bench.probes)
    parked.cancel()
    bench.query(lists).cancel()
    bench.probed(BL, ZoneState.HEALTHY)
    bench.turn_for(0.1)
    assert bench.answers == []


def test_parallel_hits_ask_for_one_probe(bench: Bench, server: NameServer) -> None:
    for _ in range(5):
        bench.query(settings(BL, resolvers=(server.target,)))
    bench.turn_until(lambda: bench.probes)
    bench.turn_for(0.05)
    assert (bench.probes, server.count(BL)) == ([BL], 1)
    bench.probed(BL, ZoneState.HEALTHY)
    assert bench.outcomes == [(BL, "listed", False, 1)] * 5


def test_a_zone_that_comes_twice_is_asked_once(bench: Bench, server: NameServer) -> None:
    bench.query(settings(WL, WL, resolvers=(server.target,)))
    bench.turn_until(lambda: bench.answers)
    bench.turn_for(0.05)
    assert (len(bench.answers), server.count(WL)) == (1, 1)


def test_the_pods_own_resolvers_are_asked_where_the_policy_names_none(
    bench: Bench, server: NameServer
) -> None:
    bench.query(settings(WL))
    assert bench.outcomes == [(WL, "unreachable", True, 0)]
    bench.lists.set_resolvers(Resolvers((server.target,), {"dns.example:53": (server.target,)}))
    bench.query(settings(WL))
    bench.query(settings(WL, resolvers=("dns.example:53",)))
    bench.turn_until(lambda: len(bench.answers) == 3)
    assert bench.answers[1].outcome == bench.answers[2].outcome == "not_listed"


def test_new_rules_with_other_resolvers_close_the_sockets_of_the_former(
    bench: Bench, server: NameServer
) -> None:
    first = settings(WL, resolvers=(server.target,))
    bench.lists.set_rules(replace(make_rules(), dnsbl=first))
    bench.query(first)
    bench.turn_until(lambda: bench.answers)
    assert bench.descriptors.opened == 1
    bench.lists.set_rules(replace(make_rules(), dnsbl=settings(WL, resolvers=("192.0.2.1:53",))))
    assert bench.descriptors.opened == 0


def counted(page: Page) -> dict[tuple[str, str], int]:
    totals = page.lookups.totals()
    return {(zone, outcome.value): sum(counts) for zone, outcome, counts, _ in totals if any(counts)}


def test_look_ups_are_counted_by_zone_and_outcome(bench: Bench, server: NameServer) -> None:
    lists = settings(WL, BL, resolvers=(server.target,))
    bench.page.lookups.name_zones([WL, BL])
    bench.lists.set_rules(replace(make_rules(), dnsbl=lists))
    bench.query(lists)
    bench.probed(BL, ZoneState.HEALTHY)
    bench.turn_until(lambda: len(bench.answers) == 2)
    assert counted(bench.page) == {(WL, "not_listed"): 1, (BL, "listed"): 1}
    assert all(total > 0 for _, _, counts, total in bench.page.lookups.totals() if any(counts))


def test_a_zone_with_a_key_is_counted_under_its_template(bench: Bench, server: NameServer) -> None:
    keyed = replace(settings(WL, resolvers=(server.target,)).sites[0], template="{key}.example")
    lists = Dnsbl(resolvers=(server.target,), sites=(keyed,))
    bench.page.lookups.name_zones(["{key}.example"])
    bench.lists.set_rules(replace(make_rules(), dnsbl=lists))
    bench.query(lists)
    bench.turn_until(lambda: bench.answers)
    assert counted(bench.page) == {("{key}.example", "not_listed"): 1}


def test_a_connection_of_former_rules_counts_in_its_own_zone(bench: Bench, server: NameServer) -> None:
    former, new = settings(WL, resolvers=(server.target,)), settings(BL, resolvers=(server.target,))
    for lists in (former, new):
        bench.page.lookups.name_zones(site.template for site in lists.sites)
        bench.lists.set_rules(replace(make_rules(), dnsbl=lists))
    bench.query(former)
    bench.turn_until(lambda: bench.answers)
    assert counted(bench.page) == {(WL, "not_listed"): 1}
