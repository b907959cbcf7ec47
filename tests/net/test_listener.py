"""Listening sockets: shared among workers, never with another program."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from postwarden_sidecar.net.listener import ListenError, listen


def test_several_sockets_share_one_port_and_one_client_reaches_one_of_them() -> None:
    sockets = listen("127.0.0.1", 0, 4)
    try:
        addresses = {member.getsockname() for member in sockets}
        assert len(addresses) == 1
        assert all(not member.getblocking() for member in sockets)
        with socket.create_connection(addresses.pop()):
            taken = 0
            for member in sockets:
                try:
                    member.accept()[0].close()
                    taken += 1
                except BlockingIOError:
                    pass
            assert taken == 1
    finally:
        for member in sockets:
            member.close()


@pytest.mark.parametrize("shares", [False, True])
def test_an_address_in_use_is_one_clear_error(shares: bool) -> None:
    """Even one whose owner would share it: SO_REUSEPORT alone would let us in, and each would get half of the clients."""
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: another process listens there; "
        ):
            listen("127.0.0.1", port, 2)


def test_a_port_in_time_wait_is_free() -> None:
    (first,) = listen("127.0.0.1", 0, 1)
    address: tuple[str, int] = first.getsockname()
    with socket.create_connection(address) as client:
        first.setblocking(True)
        accepted, _ = first.accept()
        accepted.close()  # the side that closes first is the one in TIME_WAIT
        assert client.recv(1) == b""
    first.close()
    (second,) = listen(address[0], address[1], 1)
    second.close()


def test_no_host_means_both_families() -> None:
    (listener,) = listen("", 0, 1)
    with listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            with socket.create_connection((address, port)):
                pass


@pytest.mark.parametrize(
    ("host", "words"),
    [("192.0.2.1", "this machine has no such address"), ("no-such-host.invalid", "cannot be resolved")],
)
def test_an_address_that_is_not_here(host: str, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        listen(host, 0, 1)


def test_only_a_group_is_steered() -> None:
    steered: list[int] = []

    def steering(sockets: Sequence[socket.socket]) -> None:
        steered.append(len(sockets))

    for count in (1, 3):
        for member in listen("127.0.0.1", 0, count, attach=steering):
            member.close()
    assert steered == [3]
