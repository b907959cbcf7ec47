"""Look-ups by a worker's own loop, against a real name server on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from dnsbl.name_server import MANGLED, NameServer, Zone
from postwarden_sidecar.dns import attempts
from postwarden_sidecar.dns.outcome import Finding, Outcome
from postwarden_sidecar.net import dns_udp, dnsbl, dnsbl_retry
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dnsbl import DnsblClient, Waiting
from postwarden_sidecar.net.loop import Loop

LIMIT = 10.0  # seconds; a test that gets here fails
LISTED = (b"\x7f\0\0\2",)
CLIENT = "203.0.113.9"


class Bench:
    """The client in the test's own thread."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.descriptors = Descriptors(4096)
        self.outcomes: list[Outcome] = []
        self.client = DnsblClient(
            self.loop, self.descriptors, lambda _zone, outcome, _: self.outcomes.append(outcome)
        )
        self.answers: dict[str, Finding] = {}

    def query(
        self, zones: list[str], servers: list[str], *, timeout: float = 5.0, address: str = CLIENT
    ) -> Waiting:
        resolvers = [
            SocketAddress(socket.AF_INET, (host, int(port)))
            for host, _, port in (server.rpartition(":") for server in servers)
        ]
        self.loop.now = time.monotonic()
        return self.client.panel(zones, resolvers, timeout).query(address, self.receive)

    def receive(self, zone: str, finding: Finding, start: float, end: float) -> None:
        assert zone not in self.answers
        assert start <= end
        self.answers[zone] = finding

    def ask(
        self, zones: list[str], servers: list[str], *, timeout: float = 5.0, address: str = CLIENT
    ) -> dict[str, Finding]:
        self.query(zones, servers, timeout=timeout, address=address)
        self.turn_until(lambda: len(self.answers) == len(zones))
        return self.answers

    def turn_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline
            self.loop.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.client.open_lookups == 0
    bench.client.close()
    assert bench.descriptors.opened == 0
    bench.loop.wake()
    bench.loop.turn()
    bench.loop.release()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent resolvers are passed over sooner."""
    for module in (dnsbl, dnsbl_retry):
        monkeypatch.setattr(module, "ATTEMPT", 0.1)


def unused_port() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_zones_are_asked_once_each_and_answers_have_their_ttl(bench: Bench) -> None:
    zones = {
        "bl.example": Zone({"9.113.0.203": ["127.0.0.2"]}, ttl=77),
        "wl.example": Zone(negative_ttl=33),
        "blocked.example": Zone({"*": ["127.255.255.254"]}),
        "servfail.example": Zone(mode="servfail"),
    }
    with NameServer(zones) as server:
        answers = bench.ask(list(zones), [server.target])
        assert answers == {
            "bl.example": Finding(Outcome.LISTED, LISTED, 77.0),
            "wl.example": Finding(Outcome.NOT_LISTED, (), 33.0),
            "blocked.example": Finding(Outcome.BLOCKED),
            "servfail.example": Finding(Outcome.ERROR),
        }
        assert sorted(server.queries) == sorted(f"9.113.0.203.{zone}." for zone in zones)
        assert sorted(bench.outcomes) == sorted(finding.outcome for finding in answers.values())


def test_an_ipv6_client_is_asked_for_by_its_nibbles(bench: Bench) -> None:
    nibbles = "1." + "0." * 23 + "8.b.d.0.1.0.0.2"
    with NameServer({"bl.example": Zone({nibbles: ["127.0.0.2"]})}) as server:
        answers = bench.ask(["bl.example"], [server.target], address="2001:db8::1")
        assert answers["bl.example"].addresses == LISTED


def test_parallel_look_ups_of_one_client_share_a_query(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]}, delay=0.1)}) as server:
        found: list[Finding] = []

        def ask() -> Waiting:
            resolver = SocketAddress(socket.AF_INET, ("127.0.0.1", server.port))
            return bench.client.panel(["bl.example"], [resolver], 5.0).query(
                CLIENT, lambda _zone, finding, _start, _end: found.append(finding)
            )

        waiting = [ask() for _ in range(5)]
        bench.turn_until(lambda: len(found) == 5)
        waiting.append(ask())  # while the others are still in their wait
        assert len(found) == 6
        assert {finding.addresses for finding in found} == {LISTED}
        assert server.count("bl.example") == 1
        for one in waiting:
            one.cancel()
        assert bench.ask(["bl.example"], [server.target])["bl.example"].addresses == LISTED
        assert server.count("bl.example") == 2, "answers are not kept"


def test_one_of_several_may_go_and_the_others_get_their_answer(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]}, delay=0.1)}) as server:
        first = bench.query(["bl.example"], [server.target])
        first.cancel()
        assert bench.client.open_lookups == 0
        second = bench.query(["bl.example"], [server.target])
        bench.query(["bl.example"], [server.target]).cancel()
        bench.turn_until(lambda: "bl.example" in bench.answers)
        second.cancel()


def test_a_late_answer_for_who_is_gone_is_harmless(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]}, delay=0.2)}) as server:
        bench.query(["bl.example"], [server.target]).cancel()
        bench.turn_until(lambda: server.count("bl.example") == 1)
        until = time.monotonic() + 0.4
        bench.turn_until(lambda: time.monotonic() > until)
        assert bench.answers == {}
        assert bench.outcomes == []


@pytest.mark.parametrize("mode", ["servfail", "refused", "garbage"])
def test_a_resolver_that_is_of_no_use_is_followed_by_the_next_at_once(bench: Bench, mode: str) -> None:
    with (
        NameServer({"bl.example": Zone(mode=mode)}) as bad,
        NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as good,
    ):
        began = time.monotonic()
        assert bench.ask(["bl.example"], [bad.target, good.target])["bl.example"].addresses == LISTED
        assert time.monotonic() - began < attempts.ATTEMPT / 2


def test_a_port_where_nobody_listens_is_followed_by_the_next_at_once(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as good:
        began = time.monotonic()
        for number in range(20):
            bench.answers.clear()
            found = bench.ask(["bl.example"], [unused_port(), good.target], address=f"203.0.113.{number}")
            assert found["bl.example"].addresses == LISTED
        assert time.monotonic() - began < attempts.ATTEMPT


def test_without_a_resolver_that_answers_the_look_up_fails_soon(bench: Bench) -> None:
    assert bench.ask(["bl.example"], [unused_port(), unused_port()]) == {
        "bl.example": Finding(Outcome.UNREACHABLE)
    }
    bench.answers.clear()
    assert bench.ask(["bl.example"], []) == {"bl.example": Finding(Outcome.UNREACHABLE)}


@pytest.mark.usefixtures("quick")
def test_a_silent_resolver_is_passed_over_and_the_next_is_asked(bench: Bench) -> None:
    with (
        NameServer({"bl.example": Zone(mode="silent")}) as silent,
        NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as good,
    ):
        assert bench.ask(["bl.example"], [silent.target, good.target])["bl.example"].addresses == LISTED


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", ["silent", "other name"])
def test_a_resolver_that_never_answers_is_asked_again_until_the_time_is_over(bench: Bench, mode: str) -> None:
    with NameServer({"bl.example": Zone(mode=mode)}) as server:
        began = time.monotonic()
        assert bench.ask(["bl.example"], [server.target], timeout=0.45) == {
            "bl.example": Finding(Outcome.TIMEOUT)
        }
        assert 0.4 < time.monotonic() - began < 2
        assert 3 <= server.count("bl.example") <= 5


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("patience", "counted"), [(0.01, []), (0.15, [Outcome.TIMEOUT])])
def test_a_silent_list_that_is_waited_for_no_longer_counts_as_silent_after_an_attempt(
    bench: Bench, patience: float, counted: list[Outcome]
) -> None:
    with NameServer({"bl.example": Zone(mode="silent")}) as server:
        waiting = bench.query(["bl.example"], [server.target])
        until = time.monotonic() + patience
        while time.monotonic() < until:
            bench.loop.wake()
            bench.loop.turn()
        waiting.cancel()
    assert bench.outcomes == counted
    assert bench.answers == {}


@pytest.mark.usefixtures("quick")
def test_the_answer_to_an_earlier_attempt_counts(bench: Bench) -> None:
    """Slower than the time one resolver has, and every time."""
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]}, delay=0.3)}) as server:
        assert bench.ask(["bl.example"], [server.target])["bl.example"].addresses == LISTED


def test_replies_with_another_id_and_junk_are_passed_over(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]}, mode="other id first")}) as server:
        assert bench.ask(["bl.example"], [server.target])["bl.example"].addresses == LISTED


def test_a_truncated_reply_is_asked_for_again_by_tcp(bench: Bench) -> None:
    many = [f"127.0.1.{number}" for number in range(200)]
    with NameServer({"bl.example": Zone({"*": many}, mode="truncated")}) as server:
        assert len(bench.ask(["bl.example"], [server.target])["bl.example"].addresses) == 200
        assert server.by_tcp == 1


def test_tcp_that_fails_is_followed_by_the_next_resolver(bench: Bench) -> None:
    zone = Zone({"*": ["127.0.0.2"]}, mode="truncated, no tcp")
    with (
        NameServer({"bl.example": zone}) as first,
        NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as second,
    ):
        assert bench.ask(["bl.example"], [first.target, second.target])["bl.example"].addresses == LISTED


def test_queries_come_from_many_ports_and_sockets_are_renewed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_udp, "SOCKETS", 4)
    monkeypatch.setattr(dns_udp, "QUERIES", 5)
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as server:
        for number in range(60):
            bench.answers.clear()
            bench.ask(["bl.example"], [server.target], address=f"203.0.113.{number}")
        assert len(server.ports) >= 12
        assert bench.descriptors.opened <= 4, "a socket that served is closed"


def test_a_zone_that_no_name_can_be_made_of_fails_and_the_others_do_not(bench: Bench) -> None:
    with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as server:
        answers = bench.ask(["bad..example", "bl.example"], [server.target])
        assert answers["bad..example"] == Finding(Outcome.ERROR)
        assert answers["bl.example"].addresses == LISTED


def test_without_free_descriptors_nothing_is_asked(bench: Bench) -> None:
    bench.descriptors.limit = 1
    with NameServer({"bl.example": Zone()}) as server:
        assert bench.ask(["bl.example"], [server.target])["bl.example"].outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize("mode", [*MANGLED, "thousands by tcp"])
def test_an_answer_that_cannot_be_read_lists_nobody_and_the_next_resolver_is_asked(
    bench: Bench, mode: str
) -> None:
    with NameServer({"bl.example": Zone(mode=mode)}) as bad:
        alone = bench.ask(["bl.example"], [bad.target])["bl.example"]
        assert alone.addresses == ()
        of_no_use = alone.outcome is Outcome.ERROR
        assert of_no_use or mode == "an address of another name"
        with NameServer({"bl.example": Zone({"*": ["127.0.0.2"]})}) as good:
            bench.answers.clear()
            found = bench.ask(["bl.example"], [bad.target, good.target])["bl.example"]
            assert found.addresses == (LISTED if of_no_use else ())


def test_a_resolver_that_truncates_and_then_is_silent_by_tcp_costs_no_more_than_the_time_limit(
    bench: Bench,
) -> None:
    with NameServer({"bl.example": Zone(mode="truncated, silent tcp")}) as server:
        began = time.monotonic()
        found = bench.ask(["bl.example"], [server.target], timeout=0.3)
        assert found == {"bl.example": Finding(Outcome.TIMEOUT)}
        assert time.monotonic() - began < 2
