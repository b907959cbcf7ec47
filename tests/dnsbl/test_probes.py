"""The supervisor's probes of zones, their reports, and the pod's resolvers, with a real name server."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from dnsbl.name_server import MANGLED, NameServer, Zone
from eventually import until
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient.reports import PAUSE, Reports
from postwarden_sidecar.dns.zone_health import BAD_FOR, GOOD_FOR, Probe, ZoneState
from postwarden_sidecar.ipc.messages import Resolvers, ZoneProbed
from postwarden_sidecar.rules.settings import Dnsbl, DnsblSite
from postwarden_sidecar.supervisor import dnsbl_probes
from postwarden_sidecar.supervisor.dnsbl_probes import DnsblProbes, ProbeResult, probe_zone
from postwarden_sidecar.supervisor.resolvers import ResolverTable, read_nameservers

TEST_ENTRY = {"2.0.0.127": ["127.0.0.2"]}
KEY = "secretkey"
ZONE = f"{KEY}.bl.example"
SITES = Dnsbl(sites=(DnsblSite(ZONE, "{key}.bl.example", None, 1, "bl.example"),))


@pytest.mark.parametrize(
    ("zone", "state"),
    [
        (Zone(TEST_ENTRY), ZoneState.HEALTHY),
        (Zone(TEST_ENTRY, mode="truncated"), ZoneState.HEALTHY),
        (Zone({"*": ["127.0.0.2"]}), ZoneState.LISTS_WORLD),
        (Zone({"*": ["127.255.255.254"]}), ZoneState.BLOCKED),
        (Zone({"2.0.0.127": ["127.255.255.252"]}), ZoneState.BLOCKED),
        (Zone({"*": ["192.0.2.1"]}), ZoneState.BLOCKED),
        (Zone(mode="servfail"), ZoneState.UNREACHABLE),
        (Zone(mode="refused"), ZoneState.UNREACHABLE),
        (Zone(mode="garbage"), ZoneState.UNREACHABLE),
    ],
)
async def test_a_zone_is_as_its_entries_say(zone: Zone, state: ZoneState) -> None:
    with NameServer({ZONE: zone}) as server:
        result = await probe_zone(ZONE, (server.target,))
    assert (result.state, result.detail != "") == (state, state is not ZoneState.HEALTHY)
    assert KEY not in result.detail


@pytest.mark.parametrize("mode", [*MANGLED, "truncated, no tcp", "thousands by tcp", "other name"])
async def test_answers_that_make_no_sense_are_no_fault_of_ours(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnsbl_probes, "QUERY_TIMEOUT", 0.5)
    with NameServer({ZONE: Zone(mode=mode)}) as server:
        result = await probe_zone(ZONE, (server.target,))
    if mode == "an address of another name":
        assert result.no_test_entry
    else:
        assert result.state in (ZoneState.UNREACHABLE, ZoneState.LISTS_WORLD)
    assert KEY not in result.detail


async def test_a_zone_without_its_test_entry_is_well() -> None:
    with NameServer({ZONE: Zone()}) as server:
        assert await probe_zone(ZONE, (server.target,)) == ProbeResult(
            ZoneState.HEALTHY, "", no_test_entry=True
        )


async def test_a_resolver_that_is_not_there_or_silent_makes_it_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dnsbl_probes, "QUERY_TIMEOUT", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{probe.getsockname()[1]}"
        result = await probe_zone(ZONE, (silent,))
        assert result.state is ZoneState.UNREACHABLE
        assert "does not answer" in result.detail
    assert (await probe_zone(ZONE, (silent,))).state is ZoneState.UNREACHABLE
    assert "no resolver is known" in (await probe_zone(ZONE, ())).detail
    with NameServer({ZONE: Zone(TEST_ENTRY)}) as server:
        assert (await probe_zone(ZONE, (silent, server.target))).state is ZoneState.HEALTHY


async def test_a_probe_whose_datagrams_are_lost_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsbl_probes, "REPEAT", 0.1)
    with NameServer({ZONE: Zone(TEST_ENTRY, lost=3)}) as server:
        assert await probe_zone(ZONE, (server.target,)) == ProbeResult(ZoneState.HEALTHY, "")
        assert len(server.queries) in (5, 6)  # two entries


def test_a_good_probe_holds_longer_than_a_bad_one() -> None:
    assert Probe(ZoneState.HEALTHY, 100.0).holds(100.0 + GOOD_FOR - 1)
    assert not Probe(ZoneState.HEALTHY, 100.0).holds(100.0 + GOOD_FOR)
    assert not Probe(ZoneState.LISTS_WORLD, 100.0).holds(100.0 + BAD_FOR)


class Told:
    """What workers and operator are told."""

    def __init__(self, server: NameServer, settings: Dnsbl = SITES) -> None:
        self.workers: list[ZoneProbed] = []
        self.operator: list[tuple[str, str, str]] = []
        self.probes = DnsblProbes(
            resolvers=lambda: (server.target,),
            announce=self.workers.append,
            report=lambda *report: self.operator.append(report),
        )
        self.probes.set_rules(settings)


async def test_one_probe_serves_all_who_ask_within_its_time() -> None:
    with NameServer({ZONE: Zone(TEST_ENTRY)}) as server:
        told = Told(server)
        for _ in range(3):
            told.probes.wanted(ZONE)
        await until(lambda: told.workers == [ZoneProbed(ZONE, "Healthy")])
        assert len(server.queries) == 2
        told.probes.wanted(ZONE)
        assert told.workers == [ZoneProbed(ZONE, "Healthy")] * 2
        assert len(server.queries) == 2
        assert told.operator == [("{key}.bl.example", "Healthy", "")]
        assert told.probes.usable == {"{key}.bl.example": True}
        told.probes.set_rules(None)
        assert not told.probes.usable


async def test_a_zone_that_gets_well_is_reported_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dnsbl_probes, "RECHECK_INTERVAL", 0.05)
    monkeypatch.setattr("postwarden_sidecar.dns.zone_health.BAD_FOR", 0.0)
    caplog.set_level("INFO")
    zone = Zone({"*": ["127.0.0.2"]})
    with NameServer({ZONE: zone}) as server:
        told = Told(server)
        running = asyncio.create_task(told.probes.run())
        told.probes.wanted(ZONE)
        await until(lambda: bool(told.operator))
        assert told.probes.usable == {"{key}.bl.example": False}
        zone.listed = TEST_ENTRY
        await until(lambda: len(told.operator) == 2)
        running.cancel()
        await told.probes.close()
    assert [state for _, state, _ in told.operator] == ["ListsWorld", "Healthy"]
    assert "counts for nothing" in caplog.text
    assert "well again" in caplog.text
    assert KEY not in caplog.text


async def test_a_zone_of_earlier_rules_is_probed_and_not_reported() -> None:
    with NameServer({ZONE: Zone(TEST_ENTRY)}) as server:
        told = Told(server)
        told.probes.set_rules(None)
        told.probes.wanted(ZONE)
        await until(lambda: told.workers == [ZoneProbed(ZONE, "Healthy")])
        assert told.operator == []


@pytest.mark.looptime
async def test_reports_go_out_on_change_and_at_most_each_half_minute() -> None:
    sent: list[tuple[float, str, int]] = []
    now = asyncio.get_running_loop().time

    async def send(message: pb.SidecarMessage) -> None:
        sent.append((now(), message.dnsbl.zone, message.dnsbl.state))

    reports = Reports(send, lambda _low, high: high / 2)
    running = asyncio.create_task(reports.run())
    began = now()
    reports.tell_zone("a.example", "Healthy", "")
    reports.tell_zone("b.example", "Blocked", "x" * 5000)
    await asyncio.sleep(PAUSE)
    reports.tell_zone("a.example", "Healthy", "")
    reports.tell_zone("b.example", "Unreachable", "")
    reports.tell_zone("b.example", "Healthy", "")
    reports.tell_zone("gone.example", "Healthy", "")
    reports.keep_only({"a.example", "b.example"})
    await asyncio.sleep(3 * PAUSE)
    running.cancel()
    assert [(round(when - began, 1), zone, state) for when, zone, state in sent] == [
        (2.5, "a.example", pb.DNSBL_STATE_HEALTHY),
        (2.5, "b.example", pb.DNSBL_STATE_BLOCKED),
        (2.5 + PAUSE + 2.5, "b.example", pb.DNSBL_STATE_HEALTHY),
    ]
    sent.clear()
    await reports.tell_all()
    assert [zone for _, zone, _ in sent] == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("search example.com\nnameserver 10.0.0.10\nnameserver fd00::a\n", ("10.0.0.10:53", "[fd00::a]:53")),
        ("search example.com\n", ("127.0.0.1:53",)),
        (None, ("127.0.0.1:53",)),
    ],
)
def test_nameservers_of_the_pod(tmp_path: Path, text: str | None, servers: tuple[str, ...]) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    assert read_nameservers(path) == servers


async def test_a_resolvers_name_is_looked_up_for_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    told: list[Resolvers] = []
    table = ResolverTable(told.append, path)
    table.begin()
    assert told == [Resolvers(("192.0.2.53:53",), {})]
    assert table.in_force() == ("192.0.2.53:53",)
    running = asyncio.create_task(table.run())
    table.want(("localhost:5353", "198.51.100.1:53"))
    await until(lambda: len(told) == 2)
    running.cancel()
    assert "127.0.0.1:5353" in told[1].named["localhost:5353"]
    assert table.in_force()[-1] == "198.51.100.1:53"
    assert "127.0.0.1:5353" in table.in_force()
