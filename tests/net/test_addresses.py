"""Addresses as people write them."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postwarden_sidecar.ipc.messages import UpstreamInForce
from postwarden_sidecar.net.addresses import (
    BadAddress,
    TcpTarget,
    UnixTarget,
    normalise,
    parse_host_port,
    parse_target,
)
from postwarden_sidecar.net.route import make_route


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:25", TcpTarget("127.0.0.1", 25)),
        ("[::1]:2525", TcpTarget("::1", 2525)),
        ("mail.example:25", TcpTarget("mail.example", 25)),
        ("unix:/run/mta", UnixTarget("/run/mta")),
    ],
)
def test_targets(text: str, target: TcpTarget | UnixTarget) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mail",
        "mail:",
        "mail:x",
        "mail:65536",
        "mail:-1",
        "mail:+1",
        "mail:٢٥",
        ":25",
        "mail:0",
        "::1:25",
        "[mail]:25",
        "unix:",
        "unix:a\0b",
    ],
)
def test_bad_targets_say_how_to_write_them(text: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_target(text)
    assert repr(text) in str(caught.value)


def test_the_path_of_a_unix_socket_is_bounded_as_the_kernel_bounds_it() -> None:
    assert parse_target("unix:" + "x" * 107) == UnixTarget("x" * 107)
    with pytest.raises(BadAddress, match="107 bytes"):
        parse_target("unix:" + "x" * 108)


def test_a_listen_address_may_leave_out_host_and_port() -> None:
    assert parse_host_port(":0") == ("", 0)
    assert parse_host_port("[::]:25") == ("::", 25)


@given(st.ip_addresses(v=4).map(str))
def test_v4_mapped_addresses_become_v4(address: str) -> None:
    assert normalise(address) == address
    packed = socket.inet_pton(socket.AF_INET6, f"::ffff:{address}")
    assert normalise(f"::ffff:{address}") == address
    assert normalise(f"::ffff:{packed[12:14].hex()}:{packed[14:].hex()}") == address


def test_zones_are_left_out() -> None:
    assert normalise("fe80::1%eth0") == "fe80::1"


def test_a_route_that_can_not_be_used_says_why() -> None:
    route = make_route(UpstreamInForce("127.0.0.1:25", "Pass", True, "", "", None))
    assert not route.usable
    assert "unix socket" in route.detail
    assert not make_route(UpstreamInForce("no-such-host.invalid:25", "Plain", True, "", "", None)).usable
    usable = make_route(UpstreamInForce("localhost:25", "Plain", True, "", "", None))
    assert usable.usable
    assert "127.0.0.1:25" in [str(address) for address in usable.addresses]
