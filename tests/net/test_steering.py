"""Steering: no client's connections are split, and what the kernel does is what `owner` says."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.net.steering import Steering


@contextlib.contextmanager
def group(steering: Steering, host: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    sockets = listen(host, 0, steering.workers, attach=lambda members: steering.attach(members[0]))
    try:
        assert len(sockets) == steering.workers
        yield sockets
    finally:
        for member in sockets:
            member.close()


def taker(sockets: Sequence[socket.socket], source: str) -> int:
    """The worker that a client from this address reaches."""
    name = sockets[0].getsockname()
    target = ("::1" if ":" in source else "127.0.0.1", name[1])
    with socket.create_connection(target, timeout=5, source_address=(source, 0)):
        readable, _, _ = select.select(sockets, [], [], 5)
        (found,) = readable
        found.accept()[0].close()
        return sockets.index(found)


def check_none_split(sockets: Sequence[socket.socket], steering: Steering, clients: Sequence[str]) -> None:
    found = {client: [taker(sockets, client) for _ in range(3)] for client in clients}
    assert {client: set(workers) for client, workers in found.items()} == {
        client: {steering.owner(client)} for client in clients
    }
    shares = Counter(workers[0] for workers in found.values())
    expected = len(clients) / (steering.workers - len(steering.out))
    assert set(shares) == set(range(steering.workers)) - set(steering.out)
    assert min(shares.values()) > expected / 3


CLIENTS = [f"127.{number % 7}.{number % 13}.{number + 1}" for number in range(200)]


def test_of_200_clients_with_three_connections_each_none_is_split() -> None:
    steering = Steering(4)
    with group(steering) as sockets:
        check_none_split(sockets, steering, CLIENTS)


def test_a_dual_stack_group_sees_ipv4_clients_as_such() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 in this kernel")
    steering = Steering(4)
    with group(steering, "") as sockets:
        check_none_split(sockets, steering, CLIENTS[:80])
        assert {taker(sockets, "::1") for _ in range(3)} == {steering.owner("::1")}


def test_a_worker_that_is_out_gets_nobody_and_the_others_keep_their_clients() -> None:
    before = Steering(4)
    with group(before) as sockets:
        for out in [(2,), (0, 3), (0, 1, 2)]:
            after = Steering(4, out=out)
            after.attach(sockets[1])
            check_none_split(sockets, after, CLIENTS[:80])
            assert all(
                after.owner(client) == before.owner(client)
                for client in CLIENTS
                if before.owner(client) not in out
            )


def test_a_prefix_is_one_client() -> None:
    steering = Steering(4, ipv4=24)
    with group(Steering(4)) as sockets:
        steering.attach(sockets[0])
        for network in range(20):
            clients = [f"127.0.{network}.{host}" for host in (1, 77, 254)]
            assert {taker(sockets, client) for client in clients} == {steering.owner(clients[0])}


def test_without_steering_there_is_one_socket() -> None:
    def refuse(_: Sequence[socket.socket]) -> None:
        raise PermissionError(1, "not allowed")

    (only,) = listen("127.0.0.1", 0, 4, attach=refuse)
    with only:
        for _ in range(20):
            assert taker([only], "127.0.0.1") == 0


@given(
    st.integers(1, 64),
    st.integers(0, 32),
    st.integers(0, 128),
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.data(),
)
def test_an_owner_is_there_and_the_same_for_a_whole_prefix(
    workers: int,
    ipv4: int,
    ipv6: int,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    data: st.DataObject,
) -> None:
    out = data.draw(st.sets(st.integers(0, workers - 1), max_size=workers - 1))
    steering = Steering(workers, ipv4, ipv6, tuple(sorted(out)))
    owner = steering.owner(str(address))
    assert owner in set(range(workers)) - out
    bits = ipv4 if address.version == 4 else min(ipv6, 64)
    network = ipaddress.ip_network((address, bits), strict=False)
    assert steering.owner(str(network.network_address)) == owner
    assert steering.owner(str(network.broadcast_address)) == owner


IN_NAMESPACE = """
import socket, sys
sys.path[:0] = {path!r}
from net.test_steering import Steering, check_none_split, group, listen
import subprocess, ipaddress
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "-6", "route", "add", "local", "2001:db8::/32", "dev", "lo"], check=True)
def bound(target, timeout, source_address):
    made = socket.socket(socket.AF_INET6)
    made.settimeout(timeout)
    made.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
    made.bind(source_address)
    made.connect(target)
    return made
socket.create_connection = bound
clients = [f"2001:db8:{{number:x}}:{{number * 7 % 11:x}}::{{number + 1:x}}" for number in range(200)]
steering = Steering(4)
with group(steering, "::1") as sockets:
    check_none_split(sockets, steering, clients)
    wide = Steering(4, ipv6=48)
    wide.attach(sockets[0])
    check_none_split(sockets, wide, clients[:60])
print("none split")
"""


def test_ipv6_clients_are_not_split_either() -> None:
    """In a network namespace, where a whole IPv6 network is local."""
    if os.geteuid() != 0:
        pytest.skip("making a network namespace needs root")
    code = IN_NAMESPACE.format(path=sys.path)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "none split\n", done.stderr
