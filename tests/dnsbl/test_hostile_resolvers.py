"""Resolvers that are of no use or mean harm while thousands of clients wait: time, memory and descriptors stay bounded, and nobody is
listed by what the resolver did not say."""

from __future__ import annotations

import gc
import select
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from postwarden_sidecar.dns.attempts import ATTEMPT
from postwarden_sidecar.dns.message import reversed_labels
from postwarden_sidecar.dns.outcome import Finding, Outcome
from postwarden_sidecar.net import dns_udp, dnsbl, dnsbl_retry
from postwarden_sidecar.net.addresses import SocketAddress
from postwarden_sidecar.net.descriptors import Descriptors
from postwarden_sidecar.net.dnsbl import DnsblClient, Waiting
from postwarden_sidecar.net.loop import Loop

ZONES = ["one.example", "two.example", "three.example"]
LIMIT = 20.0  # seconds; a test that gets here fails
LISTED = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\2"


class Crowd:
    """Many clients that are asked for at once."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.descriptors = Descriptors(4096)
        self.counted: list[Outcome] = []
        self.client = DnsblClient(
            self.loop, self.descriptors, lambda _zone, outcome, _seconds: self.counted.append(outcome)
        )
        self.found: list[Finding] = []

    def ask(self, count: int, ports: list[int], timeout: float) -> list[Waiting]:
        resolvers = [SocketAddress(socket.AF_INET, ("127.0.0.1", port)) for port in ports]
        self.loop.now = time.monotonic()
        panel = self.client.panel(ZONES, resolvers, timeout)
        return [panel.query(f"203.0.{number >> 8}.{number & 255}", self.receive) for number in range(count)]

    def receive(self, zone: str, finding: Finding, start: float, end: float) -> None:
        self.found.append(finding)

    def turn_until(self, condition: Callable[[], bool]) -> int:
        """How many turns it took."""
        deadline, turns = time.monotonic() + LIMIT, 0
        while not condition():
            assert time.monotonic() < deadline
            self.loop.turn()
            turns += 1
        return turns

    def turn_now(self) -> None:
        """What waits is read."""
        for _ in range(3):
            self.loop.wake()
            self.loop.turn()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.client.close()
    assert crowd.descriptors.opened == 0
    crowd.loop.wake()
    crowd.loop.turn()
    crowd.loop.release()


@contextmanager
def bound() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


def questions(server: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    """What waits there."""
    while select.select([server], [], [], 0)[0]:
        yield server.recvfrom(4096)


def reply_to(query: bytes) -> bytes:
    """Listed."""
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:-11] + LISTED


def test_thousands_of_clients_that_wait_for_a_silent_resolver_cost_little_and_leave_nothing(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (dnsbl, dnsbl_retry):
        monkeypatch.setattr(module, "ATTEMPT", 0.6)
    clients = 2_000
    left: list[int] = []
    with bound() as silent:
        tracemalloc.start()
        try:
            for _ in range(3):
                before, _ = tracemalloc.get_traced_memory()
                waiting = crowd.ask(clients, [silent.getsockname()[1]], 1.0)
                assert (tracemalloc.get_traced_memory()[0] - before) / clients < 3_072, (
                    "bytes of three look-ups"
                )
                assert crowd.turn_until(lambda: len(crowd.found) == 3 * clients) < 50, "nobody polls"
                for one in waiting:
                    one.cancel()
                del waiting
                assert crowd.counted == [Outcome.TIMEOUT] * 3 * clients
                crowd.found.clear()
                crowd.counted.clear()
                gc.collect()
                left.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    # Tables keep their size, which goes up and down by some 100 KB; an object a client that stayed would take more.
    assert left[2] - left[0] < 2 * clients * 64
    assert crowd.client.open_lookups == 0
    assert crowd.descriptors.opened <= dns_udp.SOCKETS


def test_thousands_of_refusals_by_icmp_end_at_once_and_do_not_nest(crowd: Crowd) -> None:
    with bound() as first, bound() as second:
        ports = [first.getsockname()[1], second.getsockname()[1]]
    began = time.monotonic()
    crowd.ask(2_000, ports, 10.0)
    crowd.turn_until(lambda: len(crowd.found) == 6_000)
    assert time.monotonic() - began < 2 * ATTEMPT
    assert {finding.outcome for finding in crowd.found} == {Outcome.UNREACHABLE}


def test_answers_that_come_late_again_or_from_elsewhere_list_nobody(crowd: Crowd) -> None:
    with bound() as resolver, bound() as stranger:
        waiting = crowd.ask(30, [resolver.getsockname()[1]], 10.0)
        asked = list(questions(resolver))
        assert len(asked) == 90
        for query, source in asked:
            stranger.sendto(reply_to(query), source)
        crowd.turn_now()
        assert crowd.found == [], "the kernel takes the resolver's own datagrams only"
        for one in waiting[:10]:
            one.cancel()
        gone = [reversed_labels(f"203.0.0.{number}") for number in range(10)]
        for query, source in asked:
            for _ in range(3):
                resolver.sendto(reply_to(query), source)
        crowd.turn_until(lambda: len(crowd.found) == 60)
        crowd.turn_now()
        assert crowd.found == [Finding(Outcome.LISTED, (b"\x7f\0\0\2",), 60.0)] * 60
        assert crowd.counted == [Outcome.LISTED] * 60
        assert sum(query[12:].startswith(tuple(gone)) for query, _ in asked) == 30
        for one in waiting:
            one.cancel()
    assert crowd.client.open_lookups == 0


def test_a_flood_of_answers_that_nobody_asked_for_is_read_in_batches(crowd: Crowd) -> None:
    with bound() as resolver:
        crowd.ask(1, [resolver.getsockname()[1]], 10.0)
        query, source = next(questions(resolver))
        other = bytes((query[0] ^ 1,)) + query[1:]
        for _ in range(100):
            resolver.sendto(reply_to(other), source)
        resolver.sendto(reply_to(query), source)
        turns = crowd.turn_until(lambda: bool(crowd.found))
        assert turns < 20, "others have their turn between batches, and not between datagrams"
